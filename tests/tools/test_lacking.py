"""What a comparison lacks is listed before it is run."""
from pathlib import Path

from weclip_sam.cli.lacking import lacking
from weclip_sam.comparison.experiment import load_experiment

CONFIGS = Path(__file__).parents[2] / 'configs' / 'weclip'
EXPERIMENT = '''
root = {root!r}
seeds = 2
tests = ['single']
methods = [
    dict(name='WeCLIP', stages=[
        dict(name='train', tool='train', config={voc!r}, options=dict(data_root='nowhere/VOC'))]),
    dict(name='Tiny', stages=[dict(name='train', tool='train', config={shapes!r})])]
'''


def test_folders_and_checkpoints_in_one_line_each(tmp_path, monkeypatch, run_tool, load_tool, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'experiment.py'
    path.write_text(EXPERIMENT.format(root=str(tmp_path / 'runs'), voc=str(CONFIGS / 'weclip_vit-b16_30k_voc.py'),
                                      shapes=str(CONFIGS / 'weclip_tiny_400_shapes.py')))
    lines = lacking(load_experiment(path))
    assert lines == ['missing: nowhere/VOC: no such folder of data (for WeCLIP)',
                     'missing: checkpoints/ViT-B-16.pt: CLIP ViT-B/16 of OpenAI, half precision; python '
                     'tools/weights.py fetch clip_vit-b16 (for WeCLIP)']
    load_tool('compare').main([str(path), '--list'])
    said = capsys.readouterr().out
    assert all(f'\n{line}\n' in said for line in lines) and not (tmp_path / 'runs').exists()
