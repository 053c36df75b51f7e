"""The command ``weights``: what configs need, and fetching it from a server on this machine."""
import json
import re
import shlex
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import CONTENT, SHA256, FileServer, serving

from weclip_sam.checking import weights as checking
from weclip_sam.cli import checkpoints
from weclip_sam.cli import weights as tool
from weclip_sam.engine import load_config
from weclip_sam.foundation import published as module
from weclip_sam.foundation.published import published
from weclip_sam.io import download

ROOT = Path(__file__).parents[2]
SHAPES = str(ROOT / 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py')
SEPL = str(ROOT / 'configs/sepl/sepl_vit-h_free_voc.py')
VOC = str(ROOT / 'configs/weclip/weclip_vit-b16_30k_voc.py')
TABLE = published()
FILE = 'sam_vit_h_4b8939.pth'


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves one small file in the place of every published checkpoint; works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, 'home', lambda: tmp_path / 'home')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(download, '_PAUSES', (0, 0))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with serving(FileServer()) as server:
        small = {name: replace(known, url=f'http://{server.host}/{known.file}', bytes=len(CONTENT), tensor_bytes=None,
                               sha256=SHA256) for name, known in TABLE.items()}
        for place in (module, checking):
            monkeypatch.setattr(place, 'published', lambda: small)
        clip = dict(module.tag_config('ViT-B-16', 'openai'), url=small['clip_vit-b16'].url)
        monkeypatch.setattr(module, 'tag_config', lambda arch, tag: clip)
        yield server


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        tool.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_what_comes_with_the_package_is_there(server, capsys):
    code, out, _ = run(capsys, SHAPES)
    lines = out.split('\n\n')[0].splitlines()
    assert code == 0 and lines[0].split() == ['checkpoint', 'size', 'licence', 'login', 'SHA-256', 'state']
    assert [line.split()[:2] + line.split()[-1:] for line in lines[1:3]] == [
        ['tiny', 'CLIP', 'there'], ['tiny', 'SAM', 'there']]
    assert lines[-1].split()[-3:] == ['for', '--sam', 'vit_b']


def test_a_config_without_its_checkpoints(server, capsys):
    code, out, _ = run(capsys, SEPL, '--json', 'list.json')
    assert code == 1 and 'looked for at:    checkpoints/sam_vit_h_4b8939.pth' in out
    assert 'missing:          python tools/weights.py fetch sam_vit_h' in out and 'sam_vit_b:' not in out
    row = out.splitlines()[1].split()
    assert row == ['sam_vit_h', '1', 'MB', 'Apache-2.0', 'none', 'by', 'others', 'missing']
    entry = json.loads(Path('list.json').read_text())[0]
    assert entry['name'] == 'sam_vit_h' and entry['state'] == 'missing' and entry['path'] is None
    assert entry['licence'] == 'Apache-2.0' and entry['login'] == 'none' and entry['needed'] is True
    assert entry['sha256'] == SHA256 and 'several others' in entry['sha256_from'] and server.requests == []
    where = 'mask_generator.sam.checkpoint=elsewhere/own.pth'
    code, out, _ = run(capsys, SEPL, '--cfg-options', where)
    assert code == 1 and 'elsewhere/own.pth: weights of vit_h' in out
    assert run(capsys, 'configs/none.py')[0] == 2


def test_fetched_listed_and_verified(server, capsys):
    code, out, err = run(capsys, 'fetch', 'sam_vit_h')
    assert code == 0 and out == f'checkpoints/{FILE}: 1 MB, SHA-256 as it has to be (not published, but several ' \
                                'others measured the same)\n'
    assert f'{FILE} (1 MB, licence Apache-2.0) from {server.host} into checkpoints' in err
    assert Path('checkpoints', FILE).read_bytes() == CONTENT and [p.name for p in Path('checkpoints').iterdir()] == [
        FILE]
    code, out, _ = run(capsys, 'fetch', FILE)
    assert code == 0 and 'is there (SHA-256 not published' in out and len(server.requests) == 1
    code, out, _ = run(capsys, SEPL)
    assert code == 0 and 'its size is right (--verify compares the SHA-256)' in out
    code, out, _ = run(capsys, SEPL, '--verify')
    assert code == 0 and 'state:            right: checkpoints' in out
    Path('checkpoints', FILE).write_bytes(CONTENT[:-1] + b'?')
    code, out, _ = run(capsys, SEPL, '--verify')
    assert code == 1 and 'state:            wrong' in out and f'expected {SHA256}' in ' '.join(out.split())
    code, out, err = run(capsys, 'fetch', 'vit_h')
    assert code == 1 and f'error: checkpoints/{FILE}: is there, but its SHA-256 is' in err and 'Remove it' in err


def test_a_config_stands_for_all_that_it_lacks(server, capsys):
    code, _, _ = run(capsys, 'fetch', VOC, SEPL, 'sam_vit_h', '--to', 'my weights')
    assert code == 0 and sorted(path.name for path in Path('my weights').iterdir()) == ['ViT-B-16.pt', FILE]
    assert len(server.requests) == 2
    code, out, _ = run(capsys, 'fetch', 'clip_vit-b16', 'resnet101.tv_in1k', '--to', 'my weights')
    assert code == 0 and 'is there' in out and 'to have it found here: --cfg-options model.backbone.weights=my' in out
    run(capsys, 'fetch', VOC)
    code, out, _ = run(capsys, 'fetch', VOC)
    assert code == 0 and out == 'nothing to fetch: all that is published is here\n'


def test_a_config_s_own_place_is_where_its_file_goes(server, capsys):
    config = Path('mine.py')
    config.write_text(f"_base_ = {SEPL!r}\nmask_generator = dict(sam=dict(checkpoint='my sam/{FILE}'))\n")
    assert run(capsys, config)[0] == 1
    code, out, _ = run(capsys, 'fetch', config)
    assert code == 0 and Path('my sam', FILE).is_file() and 'to have it found' not in out
    assert run(capsys, config)[0] == 0


def test_without_a_network_there_is_one_line(server, capsys):
    server.http.shutdown()
    server.http.server_close()
    code, out, err = run(capsys, 'fetch', 'sam_vit_h')
    errors = [line for line in err.splitlines() if line.startswith('error: ')]
    assert code == 1 and not out and len(errors) == 1
    assert f'{server.host} cannot be reached: Connection refused. Elsewhere fetch http://' in errors[0]
    code, out, err = run(capsys, 'fetch', 'sam_vit_h', 'clip_vit-b16', 'sam_vit_b')
    errors = [line for line in err.splitlines() if line.startswith('error: ')]
    assert code == 1 and len(errors) == 1 and f'{FILE}, ViT-B-16.pt, sam_vit_b_01ec64.pth: nobody can be' in errors[0]


def test_one_that_fails_does_not_keep_others(server, capsys):
    server.plan = [dict(status=404)]
    code, out, err = run(capsys, 'fetch', 'sam_vit_h', 'sam_vit_b')
    assert code == 1 and 'error: http://' in err and 'has no such file (any more) (404' in err
    assert out.startswith('checkpoints/sam_vit_b_01ec64.pth: 1 MB')
    server.plan = [dict(status=403)]
    code, _, err = run(capsys, 'fetch', 'resnet101.tv_in1k')
    assert code == 1 and 'hf auth login && hf download timm/resnet101.tv_in1k model.safetensors' in err


def test_after_ctrl_c_the_same_command_goes_on(server, capsys, monkeypatch):
    server.plan = [dict(cut=500_000)]
    fetch = checkpoints.download

    def stopped(*arguments):
        def stop(name, done, total):
            if done >= 500_000:
                raise KeyboardInterrupt
        fetch(*arguments[:-1], stop)
    monkeypatch.setattr(checkpoints, 'download', stopped)
    code, _, err = run(capsys, 'fetch', 'sam_vit_h')
    assert code == 130 and 'stopped. What has come is kept: the same command goes on.' in err
    monkeypatch.setattr(checkpoints, 'download', fetch)
    assert run(capsys, 'fetch', 'sam_vit_h')[0] == 0
    assert server.begun_at == [None, 'bytes=500000-'] and Path('checkpoints', FILE).read_bytes() == CONTENT


def test_a_second_command_meanwhile_is_told(server, capsys, monkeypatch):
    server.plan = [dict(stall=400_000)]
    begun = threading.Event()
    target = Path('checkpoints', FILE).absolute()
    first = threading.Thread(target=download.download, args=(f'http://{server.host}/{FILE}', target, SHA256),
                             kwargs=dict(progress=lambda *_: begun.set(), timeout=20), daemon=True)
    first.start()
    try:
        assert begun.wait(20)
        code, _, err = run(capsys, 'fetch', 'sam_vit_h')
        assert code == 1 and f'another download of {FILE} is writing there' in err
    finally:
        server.over.set()
        first.join(20)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('arguments, words', [
    (['fetch', 'sam_vit_hh'], "no checkpoint is called 'sam_vit_hh'. Did you mean 'sam_vit_h'"),
    (['fetch', 'none.py'], 'none.py: no such config'), (['fetch', 'sam_vit_h', '--to', 'file/below'], 'file')])
def test_slips_are_one_line(server, capsys, arguments, words):
    Path('file').write_text('')
    code, _, err = run(capsys, *arguments)
    assert code == 2 and words in err and err.count('error: ') == 1 and 'Traceback' not in err
    assert server.requests == []


@pytest.mark.slow
def test_without_a_config_all_of_the_package_s(server, capsys):
    code, out, _ = run(capsys)
    assert code == 0 and [name for name in TABLE if f'\n{name}: ' not in out] == []
    assert 'tiny CLIP\n  needed by:' in out and ' configs of clip_es, ' in out
    assert 'prompts.safetensors' not in out  # of an earlier stage: nobody publishes it


# docs/weights.md ------------------------------------------------------------------------------------------------------

DOCS = (ROOT / 'docs' / 'weights.md').read_text(encoding='utf-8')
COMMANDS = [shlex.split(line) for block in re.findall(r'```text\n(.*?)```', DOCS, re.S) for line in block.splitlines()]


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_the_commands_of_the_docs(server, monkeypatch, command):
    monkeypatch.chdir(ROOT)
    assert command[0] == 'python' and (ROOT / command[1]).is_file()
    if command[1] == 'tools/weights.py':
        args = tool.parse_args(command[2:])
        assert all(checkpoints._meant(name) for name in getattr(args, 'names', ()))
        assert all(Path(config).is_file() for config in getattr(args, 'configs', ()))
        return
    options = command[command.index('--cfg-options') + 1:]
    config = load_config(command[2], options)  # a rehearsal: it needs no checkpoint
    assert checking.needs(config, optional=False) == [] and config.train_cfg.max_iters == 2


def test_the_docs_say_what_the_table_says():
    text = ' '.join(DOCS.split())
    for known in TABLE.values():
        assert f'`{known.name}`' in text
        assert known.size.removesuffix(' MB') in text or known.name.endswith(('.dino', 'reg4_dinov2.lvd142m'))
