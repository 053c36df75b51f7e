"""``weclip-sam``: every command by name, only the one that is called is imported, messages say what can be typed."""
import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import weclip_sam
import weclip_sam.cli
from weclip_sam import commands as called
from weclip_sam.cli import main as console
from weclip_sam.cli.starting import starting

ROOT = Path(__file__).parents[2]
MODULES = {path.stem for path in (ROOT / 'weclip_sam' / 'cli').glob('*.py')
           if '\ndef main(' in path.read_text(encoding='utf-8')} - {'main'}


@pytest.fixture(autouse=True)
def door_stays(monkeypatch):
    """What a command leaves behind for its own process alone."""
    monkeypatch.setenv(called.DOOR, '')
    monkeypatch.setattr(sys, 'argv', ['/somewhere/bin/weclip-sam'])


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A function: puts one more module into the package of commands."""
    monkeypatch.setattr(weclip_sam.cli, '__path__', [*weclip_sam.cli.__path__, str(tmp_path)])

    def add(name, text):
        (tmp_path / f'{name}.py').write_text(text)
        monkeypatch.delitem(sys.modules, f'weclip_sam.cli.{name}', raising=False)
    yield add
    for path in tmp_path.glob('*.py'):
        sys.modules.pop(f'weclip_sam.cli.{path.stem}', None)


def test_every_command_has_a_line_and_a_door_in_tools(capsys):
    known = console.commands()
    assert set(known) == MODULES and {'train', 'make_masks', 'configs'} <= MODULES
    assert all(10 < len(said) < 90 and '`' not in said for said in known.values()), known
    assert known['train'] == 'Train a model'
    for name in known:
        assert f'from weclip_sam.cli.{name} import main' in (ROOT / 'tools' / f'{name}.py').read_text()
    assert console.main(['--help']) == 0 and console.main(['help']) == 0
    out = capsys.readouterr().out
    assert all(f'\n  {name.replace("_", "-")} ' in out for name in known)
    assert out.startswith('usage: weclip-sam COMMAND ...\n')


def test_help_and_version_wait_for_nothing():
    """Torch alone would take seconds."""
    program = ('import sys; from weclip_sam.cli.main import main; codes = [main([word]) for word in '
               '("--help", "--version", "trian")]; print(codes, sorted({"torch", "cv2"} & set(sys.modules)))')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.endswith('[0, 0, 2] []\n')
    assert result.stderr == "error: no command is called 'trian'. Did you mean 'train'?\n"


WRONG = {'train no.py': 'no.py: no such config',
         'train C --trakc wandb': 'unrecognized arguments',
         'train C --track x': 'invalid choice',
         'test {config} no.pth': 'no.pth: no such checkpoint',
         'predict no.pth X --out O': 'no.pth: no such checkpoint',
         'deploy no.pth --out x.onnx': 'no.pth: no such',
         'predict C X --out O --export cooc': "Did you mean 'coco'?",
         'make_masks C --split x': 'invalid choice',
         'compare no.py --list': 'no.py: no such experiment',
         'review no': 'no: no such folder of labels',
         'export no coco': 'no: no such folder of labels',
         'weights no.py': 'no.py: no such config',
         'export . cooc': "no export is called 'cooc'. Did you mean 'coco'?",
         'export . coco --classes no.txt': '--classes no',
         'export . coco --images no': 'no: no such folder of images',
         'review . --classes no.txt': '--classes no.txt: no',
         'predict {config} no --out O': 'no: no such image or folder',
         'predict {config} . --out O --batch-size 0': 'least 1',
         'predict {config} . --out O --sam vit': "--sam vit: expected one of ('tiny', 'vit_b',",
         'predict {config} . --out O --labels no.csv': '--labels no.csv: no such file',
         'predict {config} . --out O --config no.py': 'no.py: no such config',
         'test {config} . --sam x': '. is a folder',
         'make_labels {config} . --out O': 'give the table of the photos',
         'make_labels {config} --out O --export x': 'coco',
         'make_labels {config} no --out O': 'no: no such image or folder',
         'demo {config} --sam vit': 'expected one of',
         'import_labels . --classes no.txt --out O': "--classes 'no.txt': neither voc, coco, a number nor a file",
         'import_labels . --classes voc --rename x --out O': 'expected OLD=NEW',
         'import_labels . --classes voc --format x --out O': 'invalid choice',
         'deploy {config} --check no.onnx': 'no.onnx: no',
         'eval_seeds --pred . --gt . --classes no': 'neither voc',
         'make_masks {config} --from no': 'no: no such folder',
         'make_seeds {config} --labels no': 'no: no such folder of label PNGs'}


def test_no_command_reads_torch_before_its_arguments():
    """``--help`` of every command, and what is wrong with arguments: all in one process, which torch stays out of."""
    config = ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py'
    calls = [[name, '--help'] for name in sorted(MODULES)] + [call.format(config=config).split() for call in WRONG]
    program = '''
import contextlib, importlib, io, json, sys
for name, *arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = importlib.import_module(f'weclip_sam.cli.{name}').main(arguments)
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules)), out.getvalue()]))
'''
    result = subprocess.run([sys.executable, '-c', program, json.dumps(calls)], capture_output=True, text=True,
                            timeout=120, check=True)
    for call, line in zip(calls, result.stdout.splitlines(), strict=True):
        code, read, said = json.loads(line)
        expected = 'usage: ' if call[-1] == '--help' else WRONG[' '.join(call).replace(str(config), '{config}')]
        assert (code, read) == (0 if call[-1] == '--help' else 2, []) and expected in said, (call, code, read, said)


def test_a_command_that_cannot_be_read_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    for error, code, line in [(ModuleNotFoundError("No module named 'x'"), 2, "weclip-sam: No module named 'x'"),
                              (FileNotFoundError('y: no such config'), 2, 'error: y: no such config'),
                              (KeyboardInterrupt(), 130, '')]:
        with pytest.raises(SystemExit) as stop, starting():
            raise error
        said = capsys.readouterr().err
        assert stop.value.code == code and line in said and said.count('\n') == bool(line)
    monkeypatch.setenv('WECLIP_SAM_TRACEBACK', '1')
    with pytest.raises(ModuleNotFoundError), starting():
        raise ModuleNotFoundError


def test_version_says_what_is_installed_and_where(capsys):
    assert console.main(['--version']) == 0
    out = capsys.readouterr().out
    assert out.startswith(f'weclip_sam {weclip_sam.__version__}, torch {metadata.version("torch")}, torchvision ')
    assert out.endswith(f'package: {ROOT / "weclip_sam"}\nconfigs: {ROOT / "configs"}\n')


def test_without_a_command_help_goes_to_stderr(capsys):
    assert console.main([]) == 2
    said = capsys.readouterr()
    assert said.out == '' and said.err.startswith('usage: weclip-sam COMMAND')


@pytest.mark.parametrize('given, line', [
    ('trian', "error: no command is called 'trian'. Did you mean 'train'?"),
    ('make-mask', "error: no command is called 'make-mask'. Did you mean 'make-masks'?"),
    ('main', "error: no command is called 'main'."), ('__init__', "error: no command is called '__init__'."),
    ('zzz', "error: no command is called 'zzz'. weclip-sam --help lists them")])
def test_an_unknown_command(capsys, given, line):
    assert console.main([given]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize('typed', ['make-masks', 'make_masks'])
def test_dashes_and_underscores_are_alike_and_usage_says_the_command(typed, capsys):
    for arguments in ([typed, '--help'], ['help', typed]):
        with pytest.raises(SystemExit) as stop:
            console.main(arguments)
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith('usage: weclip-sam make-masks [-h]')


def test_a_module_with_a_main_is_a_command(added, capsys):
    added('brand_new', '"""Do it: ``python tools/brand_new.py``."""\ndef main(argv):\n    print(argv)\n    return 3\n')
    added('helper', '"""No command."""\nraise RuntimeError\n')
    assert console.commands()['brand_new'] == 'Do it' and 'helper' not in console.commands()
    assert console.main(['brand-new', 'a', '--help']) == 3
    assert capsys.readouterr().out == "['a', '--help']\n"


@pytest.mark.parametrize('text, said', [
    ('"""Draw; look at it.\n\nMore."""', 'Draw; look at it'), ('"""Draw a page that has\ntwo lines. Really."""',
                                                             'Draw a page that has two lines'), ('', '')])
def test_the_first_words_of_a_docstring(added, text, said):
    added('drawn', f'{text}\ndef main(argv): ...\n')
    assert console.commands()['drawn'] == said


def test_a_package_that_is_missing_is_one_line(added, capsys, monkeypatch):
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    added('needy', 'import no_such_package_anywhere\ndef main(argv): ...\n')
    assert console.main(['needy']) == 2
    assert capsys.readouterr().err == "error: weclip-sam needy: No module named 'no_such_package_anywhere'\n"
    monkeypatch.setenv('WECLIP_SAM_TRACEBACK', '1')
    with pytest.raises(ModuleNotFoundError):
        console.main(['needy'])


@pytest.mark.parametrize('program, typed', [('/somewhere/bin/weclip-sam', 'weclip-sam'),
                                            ('/somewhere/weclip_sam/__main__.py', 'python -m weclip_sam')])
def test_messages_know_the_door(added, capsys, monkeypatch, program, typed):
    monkeypatch.setattr(sys, 'argv', [program])
    added('told', 'import subprocess, sys\nfrom weclip_sam.commands import command_line, tool\ndef main(argv):\n'
                  '    print(tool("make_masks"), command_line("train", "a b.py"), sep="\\n")\n')
    assert console.main(['told']) is None
    assert capsys.readouterr().out == f"{typed} make-masks\n{typed} train 'a b.py'\n"
    assert sys.argv == [f'{typed} told']


def test_processes_that_a_command_starts_know_it_too(added, capfd):
    added('starts', 'import subprocess, sys\ndef main(argv):\n    return subprocess.run([sys.executable, "-c", '
                    '"from weclip_sam.commands import tool; print(tool(\'train\'))"]).returncode\n')
    assert console.main(['starts']) == 0
    assert capfd.readouterr().out == 'weclip-sam train\n'


def test_commands_of_a_checkout_and_of_an_installed_package(tmp_path, monkeypatch):
    assert called.tool('make_masks') == 'tools/make_masks.py'
    assert called.command_line('train', Path('a b'), '--amp') == "python tools/train.py 'a b' --amp"
    assert called.command_line('train', 'C', start='torchrun --nproc-per-node 2') == \
        'torchrun --nproc-per-node 2 tools/train.py C'
    assert called.command_line('train', 'C', start='srun') == 'srun python tools/train.py C'
    (tmp_path / 'weclip_sam' / 'configs').mkdir(parents=True)
    monkeypatch.setattr(called, '_PACKAGE', tmp_path / 'weclip_sam')
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').touch()  # another package's, beside ours in site-packages
    assert called.tool('make_masks') == 'weclip-sam make-masks'
    assert called.command_line('train', 'C', '--amp') == 'weclip-sam train C --amp'
    assert called.command_line('train', 'C', start='torchrun --nproc-per-node 2') == \
        'torchrun --nproc-per-node 2 -m weclip_sam train C'
    assert called.command_line('make_masks', start='srun') == 'srun weclip-sam make-masks'


def test_nobody_reads_the_help():
    """``weclip-sam --help | head -1`` ends without a traceback."""
    process = subprocess.Popen([sys.executable, '-m', 'weclip_sam', '--help'], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=ROOT)
    process.stdout.close()
    assert process.stderr.read() == b'' and process.wait(timeout=60) == 0


def strings_said(path):
    """Line and text of the strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [(node.lineno, node.value) for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent]


def test_no_message_names_a_file_in_tools():
    """An installed package has none: weclip_sam/commands.py says how a command is called here."""
    names = '|'.join(MODULES)
    pattern = re.compile(rf'(?:\btools/|\b(?<!_base_/)(?<![\w/-]))(?:{names})\.py\b')
    for text in ('run tools/train.py', 'as train.py does', 'python tools/make_masks.py X'):
        assert pattern.search(text)
    found = [f'{path.relative_to(ROOT)}:{line}: {text[:60]!r}' for path in (ROOT / 'weclip_sam').rglob('*.py')
             if path.name != 'commands.py' for line, text in strings_said(path) if pattern.search(text)]
    # Records in people's data folders name the tool by its file; they are read in weclip_sam/datasets/prepared.py.
    assert [line for line in found if not re.search(r"'tools/prepare_\w+\.py'$", line)] == [], \
        'say it with tool() or command_line() of weclip_sam.commands'
