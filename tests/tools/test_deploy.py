"""tools/deploy.py: one line for what cannot be exported, nothing written that does not agree."""
import importlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from untrained import write_checkpoint

ROOT = Path(__file__).parents[2]
needs_onnx = pytest.mark.skipif(any(find_spec(name) is None for name in ('onnx', 'onnxscript', 'onnxruntime')),
                                reason='the extra deploy is not installed')


@pytest.fixture
def deploy(capsys):
    """Run the tool; returns (exit code, what it said)."""
    tool = importlib.import_module('weclip_sam.cli.deploy')

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert 'Traceback' not in said.err
        return stop.value.code, said.out + said.err
    return run


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A second stage, which is exported quickly."""
    backbone = dict(_delete_=True, type='TimmBackbone', name='test_vit', weights=None)
    return write_checkpoint(tmp_path_factory.mktemp('deploy') / 'iter_1.pth',
                            'two_stage/deeplab-v3_vit-b16_20k_voc.py',
                            {'model.backbone': backbone, 'model.head.channels': 8}, ('cat', 'dog'))


@pytest.mark.slow
def test_a_program_of_torch(deploy, small, tmp_path, monkeypatch):
    code, said = deploy(small, '--out', tmp_path / 'new' / 'model.pt2')
    assert code == 0 and 'model.pt2: ' in said and '3 classes with the background' in said
    monkeypatch.chdir(tmp_path / 'new')
    lines = re.search('```python\n(.*?)```', (ROOT / 'docs' / 'deployment.md').read_text(), re.DOTALL).group(1)
    seen = {}
    exec(lines, seen)  # as the documentation says
    assert seen['card']['classes'] == ['background', 'cat', 'dog']
    assert seen['labels'].shape == (1, 2 * seen['card']['smallest'], 3 * seen['card']['smallest'])
    code, said = deploy(small, '--out', tmp_path / 'new' / 'model.pt2')
    assert code == 2 and said.count('\n') == 1 and 'is there already' in said and '--overwrite' in said


@needs_onnx
@pytest.mark.slow
def test_an_onnx_file_is_compared_before_it_is_written_and_may_be_again(deploy, small, tmp_path, monkeypatch):
    file = tmp_path / 'model.onnx'
    code, said = deploy(small, '--out', file)
    assert code == 0 and 'agree on 100.000 %' in said and 'times as long as torch' in said and file.is_file()
    photo = tmp_path / 'photo.png'
    from weclip_sam.export.deploy import drawn_pictures
    drawn_pictures()[1].save(photo)
    code, said = deploy(small, '--check', file, '--images', photo)
    assert code == 0 and 'of the pixels of 1 image ' in said

    other = write_checkpoint(tmp_path / 'other' / 'iter_1.pth', 'weclip/weclip_tiny_400_shapes.py', {}, ('cow',))
    code, said = deploy(other, '--check', file)
    assert code == 2 and said.count('\n') == 1 and 'was exported from another checkpoint' in said

    monkeypatch.setattr('weclip_sam.export.deploy.agreement', lambda *args: [1.0, 0.9])
    code, said = deploy(small, '--out', tmp_path / 'wrong.onnx')
    assert code == 1 and 'too little' in said and not (tmp_path / 'wrong.onnx').exists()


@needs_onnx
def test_a_check_of_what_is_no_network(deploy, small, tmp_path):
    (tmp_path / 'x.onnx').write_text('nothing')
    code, said = deploy(small, '--check', tmp_path / 'x.onnx')
    assert code == 2 and said.count('\n') == 1 and 'x.onnx: ONNX Runtime cannot read it' in said
    code, said = deploy(small, '--check', tmp_path / 'y.onnx')
    assert code == 2 and said.count('\n') == 1 and 'y.onnx: no such file' in said


def test_what_cannot_be_exported(deploy, small, tmp_path):
    prompts = write_checkpoint(tmp_path / 'prompts.pth', 'fma/fma-cls-prompts_tiny_200_shapes.py', {}, ('cat', 'dog'))
    code, said = deploy(prompts, '--out', tmp_path / 'model.pt2')
    assert code == 2 and said.count('\n') == 1 and 'a PromptTuner predicts no label for every pixel' in said
    code, said = deploy(tmp_path / 'none.pth', '--out', tmp_path / 'model.pt2')
    assert code == 2 and said.count('\n') == 1 and 'none.pth' in said
    assert not (tmp_path / 'model.pt2').exists()


def test_where_it_cannot_be_written(deploy, small, tmp_path):
    code, said = deploy(small, '--out', tmp_path / 'model.tflite')
    assert code == 2 and 'expected a file that ends in .onnx or .pt2' in said and said.count('\n') == 1
    (tmp_path / 'file').touch()
    code, said = deploy(small, '--out', tmp_path / 'file' / 'model.pt2')
    assert code == 2 and 'a file of that name is in the way' in said and said.count('\n') == 1
    (tmp_path / 'model.pt2').mkdir()
    code, said = deploy(small, '--out', tmp_path / 'model.pt2', '--overwrite')
    assert code == 2 and 'is a folder' in said and said.count('\n') == 1
    if os.geteuid():
        (tmp_path / 'closed').mkdir(0o500)
        code, said = deploy(small, '--out', tmp_path / 'closed' / 'model.pt2')
        assert code == 2 and 'permission denied' in said and said.count('\n') == 1


def test_a_missing_package_is_one_line(deploy, small, tmp_path, monkeypatch):
    monkeypatch.setattr('weclip_sam.export.deploy.files.find_spec', lambda name: None)
    code, said = deploy(small, '--out', tmp_path / 'model.onnx')
    assert code == 2 and said.count('\n') == 1
    assert 'a file for torch.export (.pt2) needs nothing more' in said
    assert 'onnx and onnxscript cannot be imported here' in said and 'pip install "weclip_sam[deploy]"' in said
    code, said = deploy(small, '--check', tmp_path / 'model.pt2')
    assert code == 2 and 'it takes .onnx files alone' in said
    (tmp_path / 'model.onnx').touch()
    code, said = deploy(small, '--check', tmp_path / 'model.onnx')
    assert code == 2 and said.count('\n') == 1 and 'onnxruntime cannot be imported here' in said
