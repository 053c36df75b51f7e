"""A file is fetched whole, checked, or not there; what came of it is gone on with."""
import errno
import io
import json
import threading
from urllib.request import Request

import pytest
from file_server import CONTENT, SHA256, FileServer, Proxy, serving

from weclip_sam.io import download as module
from weclip_sam.io.download import DownloadError, Fetched, download
from weclip_sam.io.identity import sha256_of
from weclip_sam.io.locks import FolderTaken

SIZE = len(CONTENT)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, '_PAUSES', (0, 0, 0, 0))
    for name in ('http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'no_proxy', 'NO_PROXY'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with serving(FileServer()) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'new folder' / 'weights.bin'


def left(path):
    return sorted(each.name for each in path.parent.iterdir())


def test_a_file_is_fetched_checked_and_alone(server, path):
    told = []
    fetched = download(server.url, path, SHA256, progress=lambda *step: told.append(step))
    assert fetched == Fetched(path, SIZE, SHA256, True) and path.read_bytes() == CONTENT
    assert left(path) == ['weights.bin'] and server.begun_at == [None]
    names = [name for name, *_ in told]
    assert told[names.index('checking weights.bin') - 1] == ('weights.bin', SIZE, SIZE)
    assert told[-1] == ('checking weights.bin', SIZE, SIZE) and sha256_of(path) == SHA256
    assert download(server.url, path.with_name('other')).checked is False  # nobody says what it has to be
    with pytest.raises(ValueError, match='is there already'):
        download(server.url, path)


def test_after_cuts_the_rest_alone_is_asked_for(server, path):
    server.plan = [dict(cut=400_000), dict(cut=300_000)]
    assert download(server.url, path, SHA256).bytes == SIZE and path.read_bytes() == CONTENT
    assert server.begun_at == [None, 'bytes=400000-', 'bytes=700000-']
    assert {headers.get('If-Range') for _, headers in server.requests[1:]} == {'"v1"'}
    assert left(path) == ['weights.bin']


def test_a_server_without_rests_sends_all_again(server, path):
    server.plan = [dict(cut=400_000), dict(ranges=False)]
    assert download(server.url, path, SHA256).bytes == SIZE
    assert server.begun_at == [None, 'bytes=400000-'] and path.read_bytes() == CONTENT


def test_a_connection_that_never_brings_it_ends_in_one_line_and_the_next_call_goes_on(server, path):
    server.plan = [dict(cut=400_000), *[dict(cut=0)] * 5]
    with pytest.raises(DownloadError, match=r'broke off; 5 attempts .*0\.4 MB are kept in .+\.part; the same command'):
        download(server.url, path, SHA256)
    assert left(path) == ['weights.bin.part', 'weights.bin.part.json'] and len(server.requests) == 6
    assert download(server.url, path, SHA256).bytes == SIZE and server.begun_at[-1] == 'bytes=400000-'


def test_a_server_that_says_nothing_any_more_is_asked_again(server, path):
    server.plan = [dict(stall=400_000), *[dict(stall=0)] * 5]
    with pytest.raises(DownloadError, match=r'broke off \(no byte came in time\); 5 attempts .* 0\.4 MB are kept'):
        download(server.url, path, SHA256, timeout=0.1)
    assert download(server.url, path, SHA256, timeout=5).bytes == SIZE and server.begun_at[-1] == 'bytes=400000-'


def test_after_an_interruption_the_next_call_goes_on(server, path):
    server.plan = [dict(cut=500_000)]

    def interrupt(name, done, total):
        if done >= 500_000:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        download(server.url, path, SHA256, progress=interrupt)
    assert left(path) == ['weights.bin.part', 'weights.bin.part.json']  # and no lock
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT and server.begun_at == [None, 'bytes=500000-']


def test_a_part_that_is_whole_is_only_checked(server, path):
    def interrupt(name, done, total):
        if name.startswith('checking'):
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        download(server.url, path, SHA256, progress=interrupt)
    assert download(server.url, path, SHA256).bytes == SIZE
    assert server.begun_at == [None, f'bytes={SIZE}-'] and left(path) == ['weights.bin']


@pytest.mark.parametrize('part, note', [
    (CONTENT[:9], None), (CONTENT[:9], '{'), (CONTENT[:9], json.dumps(dict(url='http://elsewhere', validator=''))),
    (b'x' * (SIZE + 1), 'own')])
def test_a_part_of_something_else_is_not_gone_on_with(server, path, part, note):
    path.parent.mkdir()
    path.with_name('weights.bin.part').write_bytes(part)
    if note:
        own = json.dumps(dict(url=server.url, bytes=SIZE, validator='"v1"'))
        path.with_name('weights.bin.part.json').write_text(own if note == 'own' else note)
    download(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT and left(path) == ['weights.bin'] and server.begun_at[-1] is None


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, path):
    server.plan = [dict(cut=400_000), *[dict(cut=0)] * 5]
    with pytest.raises(DownloadError):
        download(server.url, path)
    server.content, server.tag = CONTENT[::-1], '"v2"'
    assert download(server.url, path).bytes == SIZE and path.read_bytes() == CONTENT[::-1]


def test_wrong_bytes_are_removed(server, path):
    server.content = CONTENT[:-1] + b'?'
    with pytest.raises(DownloadError, match=rf'what came is not weights\.bin: 1,200,000 bytes with SHA-256 \w{{64}}, '
                                            rf'expected {SHA256}\. It was removed'):
        download(server.url, path, SHA256)
    assert left(path) == []


def test_a_file_of_another_size_and_a_web_page_are_refused_before_they_are_written(server, path):
    with pytest.raises(DownloadError, match='the file there has 1,200,000 bytes, which weights.bin has not'):
        download(server.url, path, SHA256, fits=lambda size: size == 7)
    server.plan = [dict(headers={'Content-Type': 'text/html; charset=utf-8'}, body=b'<html>log in')]
    with pytest.raises(DownloadError, match='a web page came instead'):
        download(server.url, path, SHA256)
    assert left(path) == []


@pytest.mark.parametrize('status, words', [
    (404, 'has no such file .any more. .404'), (401, 'wants a login first'), (403, 'without a login or an accepted'),
    (407, 'a proxy that wants a login'), (451, 'the server refuses .451')])
def test_what_a_server_refuses_is_not_asked_for_again(server, path, status, words):
    server.plan = [dict(status=status)]
    with pytest.raises(DownloadError, match=words) as raised:
        download(server.url, path, SHA256)
    assert raised.value.code == status and len(server.requests) == 1 and left(path) == []


def test_what_a_server_cannot_give_now_is_asked_for_again(server, path):
    server.plan = [dict(status=503), dict(status=429)]
    assert download(server.url, path, SHA256).bytes == SIZE and len(server.requests) == 3


def test_redirects_are_followed_and_what_the_hub_says_of_the_file_is_checked(server, path):
    server.plan = [dict(status=302, headers={'Location': '/cdn', 'X-Linked-Etag': f'"{SHA256}"'}), dict(cut=400_000),
                   dict(status=302, headers={'Location': '/cdn', 'X-Linked-Etag': f'"{SHA256}"'})]
    assert download(server.url, path).checked
    assert [(where, headers.get('Range')) for where, headers in server.requests] == [
        ('/weights.bin', None), ('/cdn', None), ('/weights.bin', 'bytes=400000-'), ('/cdn', 'bytes=400000-')]
    server.plan = [dict(status=302, headers={'Location': '/cdn', 'X-Linked-Etag': f'"{"0" * 64}"'})]
    with pytest.raises(DownloadError, match='expected 0000'):
        download(server.url, path.with_name('b'))
    server.plan = [dict(status=302, headers={'Location': '/loop'})] * 30
    with pytest.raises(DownloadError, match='redirect'):
        download(server.url, path.with_name('b'))


def test_no_redirect_leads_out_of_https(path):
    redirects = module._Redirects(None)
    with pytest.raises(DownloadError, match='leads to http://b, which anybody'):
        redirects.redirect_request(Request('https://a'), io.BytesIO(), 302, 'Found', {}, 'http://b')
    assert redirects.redirect_request(Request('https://a'), io.BytesIO(), 302, 'F', {}, 'https://b').host == 'b'


class FullDisk(io.FileIO):
    """Room for half a million bytes."""

    def write(self, block):
        room = 500_000 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(bytes(block)[:room])


def test_on_a_full_disk_what_came_is_kept(server, path, monkeypatch):
    monkeypatch.setattr(module, 'open', lambda file, mode, **_: FullDisk(file, mode.replace('b', '')), raising=False)
    with pytest.raises(OSError) as raised:
        download(server.url, path, SHA256)
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(path) and len(server.requests) == 1
    monkeypatch.undo()
    download(server.url, path, SHA256)
    assert server.begun_at == [None, 'bytes=500000-'] and path.read_bytes() == CONTENT


def test_too_little_room_is_told_before(server, path, monkeypatch):
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda folder: type('Usage', (), dict(free=1_000_000)))
    with pytest.raises(DownloadError, match=r'1 MB are to come, but only 1 MB are free there: make room'):
        download(server.url, path, SHA256)
    assert left(path) == []


def test_proxies_of_the_environment_are_used_and_named(server, path, monkeypatch):
    with serving(Proxy(server)) as proxy:
        monkeypatch.setenv('http_proxy', f'http://me:secret@{proxy.host}')
        url = 'http://weights.example/sam.bin'
        assert download(url, path, SHA256).bytes == SIZE
        assert [where for where, _ in proxy.requests] == [url] and server.requests[0][0] == '/sam.bin'
        assert proxy.requests[0][1]['Proxy-Authorization'].startswith('Basic ')
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        assert download(server.url, path.with_name('direct'), SHA256).bytes == SIZE and len(proxy.requests) == 1
    with pytest.raises(DownloadError, match=rf'^weights\.example \(through the proxy {proxy.host}\) cannot be reached'):
        download(url, path.with_name('gone'), SHA256)


def test_without_a_network_one_line_says_what_to_do(path):
    with serving(FileServer()) as server:
        pass  # nobody listens there any more
    with pytest.raises(DownloadError, match='cannot be reached: Connection refused. Elsewhere fetch http.* and put it '
                                            'here as .*weights.bin') as raised:
        download(server.url, path, SHA256)
    assert raised.value.unreached == 'Connection refused'
    assert '\n' not in str(raised.value) and left(path) == []


def test_a_second_call_meanwhile_is_told(server, path):
    server.plan = [dict(stall=400_000)]
    begun = threading.Event()
    first = threading.Thread(target=download, args=(server.url, path, SHA256), daemon=True,
                             kwargs=dict(progress=lambda *_: begun.set(), timeout=20))
    first.start()
    try:
        assert begun.wait(20)
        with pytest.raises(FolderTaken, match=r'another download of weights\.bin is writing there \(process \d+'):
            download(server.url, path, SHA256)
        assert download(server.url, path.with_name('other'), SHA256).bytes == SIZE  # into the same folder
    finally:
        server.over.set()  # ends the stalled answer
        first.join(20)
    assert path.read_bytes() == CONTENT and left(path) == ['other', 'weights.bin']
