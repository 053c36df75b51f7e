"""What README and docs tell to type is there: programs, options, configs, extras, tests. So is what they link to."""
import configparser
import re
from pathlib import Path

import documented
import pytest

from weclip_sam.engine import load_config
from weclip_sam.io.config_files import find_config, packaged_configs

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
COMMANDS = [command for path in DOCUMENTS
            for command in (*documented.fenced_commands(path), *documented.inline_commands(path))]
CONFIG_COMMANDS = [command for path in packaged_configs().values() for command in documented.docstring_commands(path)]
# A word in capitals stands for something of the reader's, and so does a config whose name begins with my.
PLACEHOLDER = re.compile(r'[A-Z][A-Z_]*|.*(^|/)my\w*(\.py)?')


def check_ours(call):
    """A command of ours: it is there, takes these arguments, and finds its config, which takes these options."""
    assert call.script is None or call.script.is_file(), f'{call.script}: no such script'
    if '...' in call.arguments or call.arguments == ('--version',) or call.module == '':
        return
    where = f'weclip_sam.cli.{call.module}' if call.module else call.script.stem
    if call.module:
        assert (ROOT / 'weclip_sam' / 'cli' / f'{call.module}.py').is_file(), f'no command is called {call.module}'
    elif call.script.suffix != '.py' or call.script.is_relative_to(ROOT / 'tests'):
        return
    try:
        found = documented.parsed(where, call.arguments)
    except ModuleNotFoundError as error:
        pytest.skip(f'{where} needs {error.name}')
    assert not isinstance(found, str), found
    for config in (getattr(found, 'config', None), getattr(found, 'experiment', None)):
        if config and not PLACEHOLDER.fullmatch(config):
            path = find_config(config)
            if path.parent.name != 'compare':
                load_config(path, getattr(found, 'cfg_options', None))


def check_pip(words):
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    for word in words:
        for extra in re.findall(r'^(?:\.|weclip[_-]sam)\S*?\[([\w,]+)\]', word):
            assert extra == 'NAME' or set(extra.split(',')) <= set(setup['options.extras_require']), f'no extra {extra}'


def check_pytest(words, pytestconfig):
    for place, word in enumerate(words):
        if word.startswith('tests'):
            assert (ROOT / word.partition('::')[0]).exists(), f'{word}: no such test'
        if word == '-m' and place:
            markers = [line.partition(':')[0] for line in pytestconfig.getini('markers')]
            assert set(words[place + 1].replace('not ', '').split(' and ')) <= set(markers)


@pytest.mark.parametrize('command', [*COMMANDS, *CONFIG_COMMANDS], ids=str)
def test_what_documents_tell_to_type(command, pytestconfig, monkeypatch):
    monkeypatch.chdir(ROOT)
    call = documented.call_of(command)
    if call is not None:
        check_ours(call)
    elif command.words[0] == 'pip':
        check_pip(command.words)
    elif command.words[0] == 'pytest':
        check_pytest(command.words, pytestconfig)
    else:
        assert command.words[:3] in (('python', '-m', 'build'), ('python', '-m', 'venv'), ('python', '-m', 'pip'),
                                     ('srun', '...', '--resume')), f'{command}: nothing looks at this'


def test_commands_are_found():
    assert {path.name for path in DOCUMENTS} >= {'README.md', 'CONTRIBUTING.md', 'architecture.md', 'performance.md'}
    assert len(COMMANDS) > 15 and len(CONFIG_COMMANDS) > 60
    words = {command.words[0] for command in COMMANDS}
    assert {'python', 'pip', 'pytest'} <= words


@pytest.mark.parametrize('path', [*DOCUMENTS, ROOT / 'CHANGELOG.md'], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for line, link in documented.links_of(path):
        file, _, anchor = link.partition('#')
        target = (path.parent / file).resolve() if file else path
        assert target.exists() and target.is_relative_to(ROOT), f'{path.name}:{line}: {link}: no such file'
        if anchor:
            assert anchor in documented.anchors_of(target), f'{path.name}:{line}: {link}: no such heading'


EXAMPLE = '''# One `code` heading, & more

```bash
$ CUDA_VISIBLE_DEVICES=0 python tools/train.py CONFIG \\
    --amp  # on a GPU
pip install -e ".[test]" && pytest -q
what it prints: python tools/no.py
```

```python
weclip-sam = 3
```

## Twice
## Twice

Try `weclip-sam make-masks CONFIG --split
val` or `tools/train.py` ([one](#one-code-heading--more), [two](docs/x.md#twice-1 "Title"), <https://x.y>).
<img src="a.png"> `[no](link)` [out](https://x.y/z)
'''


def test_the_reading_itself(tmp_path, monkeypatch):
    path = tmp_path / 'x.md'
    path.write_text(EXAMPLE)
    fenced = documented.fenced_commands(path)
    assert [command.words for command in fenced] == [
        ('python', 'tools/train.py', 'CONFIG', '--amp'), ('pip', 'install', '-e', '.[test]'), ('pytest', '-q')]
    assert fenced[0].line == 4
    inline, = documented.inline_commands(path)
    assert (inline.words, inline.line) == (('weclip-sam', 'make-masks', 'CONFIG', '--split', 'val'), 17)
    assert documented.call_of(inline) == documented.Call('make_masks', None, ('CONFIG', '--split', 'val'))
    assert [link for _, link in documented.links_of(path)] == ['#one-code-heading--more', 'docs/x.md#twice-1', 'a.png']
    assert documented.anchors_of(path) == {'one-code-heading--more', 'twice', 'twice-1'}


@pytest.mark.parametrize('line, fault', [
    ('python tools/trian.py CONFIG', 'no such script'), ('weclip-sam trian CONFIG', 'no command is called trian'),
    ('weclip-sam train CONFIG --ampp', 'unrecognized arguments: --ampp'), ('weclip-sam train', 'required: config'),
    ('weclip-sam train nothing-like-it', 'no such config'),
    ('torchrun --nproc-per-node 2 -m weclip_sam test CONFIG', 'required: checkpoint'),
    ('weclip-sam train weclip_tiny_400_shapes --cfg-options train_dataloder.batch_size=1',
     'train_dataloader')])
def test_what_is_not_there_is_told(tmp_path, line, fault):
    path = tmp_path / 'x.md'
    path.write_text(f'```text\n{line}\n```\n')
    command, = documented.fenced_commands(path)
    with pytest.raises((AssertionError, ValueError, FileNotFoundError), match=fault):
        check_ours(documented.call_of(command))
