"""The command ``configs``: lists what the package has, tells about one, begins one of one's own."""
from pathlib import Path

import pytest

from weclip_sam.comparison.experiment import load_experiment
from weclip_sam.engine import load_config
from weclip_sam.io.config_files import packaged_configs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(load_tool, capsys, tmp_path, monkeypatch):
    """A function: runs the command in an empty folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = load_tool('configs').main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        return (code or 0, *capsys.readouterr())
    return run


def listed(text):
    folder, names = '', []
    for line in text.splitlines():
        if line.endswith(':'):
            folder = line[:-1]
        elif line.startswith('  ') and not line.startswith('   '):
            names.append(f'{folder}/{line.strip()}.py')
    return names


def test_all_configs_are_listed_with_what_they_are_for(run):
    code, out, _ = run()
    assert code == 0 and listed(out) == list(packaged_configs()) == listed(run('list')[1])
    assert out.startswith(f'in {ROOT / "configs"}\n')
    assert '  weclip-sam_vit-b16_30k_voc\n      WeCLIP-SAM on VOC 2012\n' in out


def test_words_choose(run):
    assert listed(run('list', 'TINY', 'folder')[1]) == ['weclip_sam/weclip-sam_tiny_400_folder.py']
    assert run('list', 'no such words') == (2, '', 'error: no config has these words; python tools/configs.py lists '
                                                   'all\n')


def test_show_tells_the_commands_as_they_are_called_here(run, monkeypatch):
    monkeypatch.setenv('WECLIP_SAM_DOOR', 'weclip-sam')
    code, out, _ = run('show', 'sepl_tiny_free_shapes')
    assert code == 0 and out.startswith(f'{ROOT}/configs/sepl/sepl_tiny_free_shapes.py\n\nSEPL on CLIP-ES')
    assert '    weclip-sam make-seeds configs/sepl/sepl_tiny_free_shapes.py --evaluate\n' in out and 'python' not in out


@pytest.mark.parametrize('name, command', [
    ('weclip-sam_tiny_400_folder', 'train my_weclip-sam_tiny_400_folder.py'),
    ('excel_tiny_free_shapes', 'make_seeds my_excel_tiny_free_shapes.py'),
    ('shapes', 'compare my_shapes.py --run')])
def test_a_copy_says_what_the_packages_own_says(run, name, command):
    code, out, _ = run('copy', name)
    tool, *arguments = command.split(' ', 1)
    path = f'my_{name}.py'
    assert code == 0
    assert out == f'{path}: change what you like, then: python tools/{tool}.py {" ".join(arguments)}\n'
    if name == 'shapes':
        mine, theirs = load_experiment(path), load_experiment(name)
        assert (str(mine.root), str(theirs.root)) == ('work_dirs/compare/my_shapes', 'work_dirs/compare/shapes')
        assert mine.methods == theirs.methods and mine.seeds == theirs.seeds
    else:
        assert load_config(path).to_dict() == load_config(name).to_dict()


def test_what_a_copy_shows_are_settings_as_they_are(run):
    run('copy', 'weclip-sam_tiny_400_folder', 'mine.py')
    text = Path('mine.py').read_text()
    assert '# optim_wrapper = dict(optimizer=dict(lr=0.002))\n' in text
    before = load_config('mine').to_dict()
    Path('mine.py').write_text(text.replace('\n# optim', '\noptim').replace('\n# train_data', '\ntrain_data')
                               .replace('\n# mask_bank', '\nmask_bank'))
    assert text != Path('mine.py').read_text() and load_config('mine').to_dict() == before
    Path('mine.py').write_text(text.replace('# optim_wrapper = dict(optimizer=dict(lr=0.002))',
                                            'optim_wrapper = dict(optimizer=dict(lr=0.5))'))
    assert load_config('mine').optim_wrapper.optimizer.lr == 0.5


@pytest.mark.parametrize('arguments, line', [
    (('copy', 'weclip-sam_tiny_400_foldr'), "no such config. Did you mean 'weclip-sam_tiny_400_folder'?"),
    (('copy', 'shapes', 'there.py'), 'there.py: is there already; give another file: python tools/configs.py copy '
     'shapes FILE'),
    (('copy', 'shapes', 'mine.json'), 'mine.json: a config is a .py file, got .json'),
    (('copy', 'there.py'), "there.py: is none of the package's configs; copy the file itself"),
    (('show', 'nothing-like-it'), 'nothing-like-it: no such config')])
def test_what_cannot_be_is_one_line(run, arguments, line):
    Path('there.py').write_text('model = 1')
    code, out, errors = run(*arguments)
    assert (code, out) == (2, '') and line in errors and errors.count('\n') == 1
    assert [path.name for path in Path().iterdir()] == ['there.py'] and Path('there.py').read_text() == 'model = 1'
