"""Fetching a large file over HTTP: gone on with where it broke off, checked, and there whole or not at all.

While ``FILE`` is fetched, ``FILE.part`` grows; ``FILE.part.json`` says of what. Whatever ends it (a cut connection, a
full disk, Ctrl-C, a kill), the next call asks the server for the rest alone. A server that has no rests to give begins
anew. Only what has the right size and SHA-256 gets the file's name; anything else is removed.

Proxies are those of the usual environment variables (``https_proxy``, ``http_proxy``, ``no_proxy``).
"""
from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener, getproxies, proxy_bypass

from weclip_sam.io.files import move, write_json
from weclip_sam.io.identity import sha256_of
from weclip_sam.io.locks import FolderLock
from weclip_sam.io.parallel import Progress, no_progress

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as dead
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts that brought nothing
_BLOCK = 1 << 18
_LATER = {408, 425, 429, 500, 502, 503, 504}
_ANSWERS = {401: 'wants a login first', 403: 'does not give it out without a login or an accepted licence',
            404: 'has no such file (any more)', 410: 'has no such file any more',
            407: 'is behind a proxy that wants a login: give it in the variable https_proxy, as http://USER:WORD@HOST'}
_LINKED = 'X-Linked-Etag'  # the hub's SHA-256 of a large file, in the answer that redirects to it
_HEX = set('0123456789abcdef')


class DownloadError(ValueError):
    """A file could not be fetched.

    Attributes:
        unreached: why nobody answered, as without a network; empty where somebody did.
        code: with which a server refused it, or 0.
    """

    def __init__(self, message: str, unreached: str = '', code: int = 0) -> None:
        super().__init__(message)
        self.unreached, self.code = unreached, code


@dataclass(frozen=True)
class Fetched:
    """What :func:`download` brought.

    Attributes:
        path, bytes: the file.
        sha256: of its content.
        checked: whether somebody had said what that had to be.
    """

    path: Path
    bytes: int
    sha256: str
    checked: bool


def download(url: str, path: str | os.PathLike[str], sha256: str | None = None,
             fits: Callable[[int], bool] = lambda size: True, progress: Progress = no_progress,
             timeout: float | None = None) -> Fetched:
    """Fetch a file.

    Args:
        url: http or https.
        path: where it goes; its folder is made.
        sha256: that it must have; None takes that which the server tells, if it does (the hub does).
        fits: whether a file of so many bytes may be it; asked before the first byte is written.
        progress: told of bytes.
        timeout: seconds without a byte; None: :data:`TIMEOUT`.

    Raises:
        DownloadError: it cannot be had, or is not what it should be; says what is kept and how to go on.
        FolderTaken: another process is fetching it.
        ValueError: ``path`` is there already.
        OSError: it cannot be written, as on a full disk; what has come is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FolderLock(path.parent, f'download of {path.name}', name=f'.{path.name}.lock'):
        if os.path.lexists(path):
            raise ValueError(f'{path} is there already; remove it first, or choose another folder')
        transfer = _Transfer(url, path, fits, progress, TIMEOUT if timeout is None else timeout)
        transfer.run()
        return transfer.finish(sha256)


class _Transfer:
    """One file on its way.

    Attributes:
        told: its SHA-256, if the server says it.
        total: its bytes, if the server says them.
    """

    def __init__(self, url: str, path: Path, fits: Callable[[int], bool], progress: Progress, timeout: float) -> None:
        self.url, self.path, self.fits, self.progress, self.timeout = url, path, fits, progress, timeout
        self.told: str | None = None
        self.total: int | None = None
        self.part = path.with_name(path.name + '.part')
        self.note = path.with_name(path.name + '.part.json')
        self._opener = build_opener(_Redirects(self))
        self._answered = False
        self._about: dict[str, Any] = {}  # what the part is a part of
        with suppress(OSError, ValueError, RecursionError):
            known = json.loads(self.note.read_text(encoding='utf-8'))
            self._about = known if isinstance(known, dict) and known.get('url') == url else {}
        if not self._about:
            self._forget()

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def run(self) -> None:
        """Ask until the part is whole."""
        in_vain = 0
        while True:
            before = self.size
            try:
                if self._ask():
                    return
                reason = 'the connection broke off'
            except HTTPError as error:
                reason = self._refused(error)
            except (OSError, HTTPException) as error:
                reason = self._broken(error)
            in_vain = 0 if self.size > before else in_vain + 1
            if in_vain > len(_PAUSES):
                raise DownloadError(f'{self.url}: {reason}; {in_vain} attempts brought nothing.{self._kept()}')
            time.sleep(_PAUSES[max(in_vain - 1, 0)])

    def finish(self, sha256: str | None) -> Fetched:
        """Check the part, and give it the file's name."""
        size, wanted = self.size, sha256 or self.told
        found = sha256_of(self.part, partial(self.progress, f'checking {self.path.name}'))
        if not self.fits(size) or (self.total is not None and size != self.total) or (wanted and found != wanted):
            self._forget()
            raise DownloadError(f'{self.url}: what came is not {self.path.name}: {size:,} bytes with SHA-256 {found}'
                                + (f', expected {wanted}' if wanted else '') + '. It was removed')
        move(self.part, self.path)
        self.note.unlink(missing_ok=True)
        return Fetched(self.path, size, found, wanted is not None)

    def _forget(self) -> None:
        self._about = {}
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)

    def _ask(self) -> bool:
        """One request for what is missing; whether all is there now."""
        begin = self.size
        headers = {'User-Agent': 'weclip_sam', 'Accept-Encoding': 'identity'}
        if begin:
            headers['Range'] = f'bytes={begin}-'
            if self._about.get('validator'):
                headers['If-Range'] = self._about['validator']
        try:
            response = self._opener.open(Request(self.url, headers=headers), timeout=self.timeout)
        except HTTPError as error:
            self._answered = True
            if error.code != 416 or not begin:
                raise
            # There is no rest: the part is whole, or no part of that file.
            self.total = _number(error.headers.get('Content-Range', '').rpartition('/')[2])
            if self.total != begin:
                self._forget()
            return self.total == begin
        with response:
            self._answered = True
            begin = self._agree(response, begin)
            self._need_room(begin)
            self._take(response, begin)
        return self.total is None or self.size >= self.total

    def _agree(self, response: Any, begin: int) -> int:
        """Where the part goes on; what cannot be the file is refused before it is written."""
        headers = response.headers
        if response.status == 206:
            span = headers.get('Content-Range', '').removeprefix('bytes ')
            start, total = _number(span.partition('-')[0]), _number(span.rpartition('/')[2])
            if start != begin or self._about.get('bytes') not in (None, total):
                self._forget()
                raise HTTPException('the server gave another part than it was asked for')
        else:
            begin, total = 0, _number(headers.get('Content-Length', ''))
        if headers.get_content_type() == 'text/html' and self.path.suffix != '.html':
            raise DownloadError(f'{self.url}: a web page came instead of the file, as of a login or a proxy.'
                                f'{self._kept()}')
        if total is not None and not self.fits(total):
            self._forget()
            raise DownloadError(f'{self.url}: the file there has {total:,} bytes, which {self.path.name} has not: it '
                                'is another one. Nothing was written')
        self.total = total
        if not begin:
            self._forget()
            strong = headers.get('ETag', '') if not headers.get('ETag', '').startswith('W/') else ''
            self._about = dict(url=self.url, bytes=total, validator=strong or headers.get('Last-Modified', ''))
            with _on_the_disk(self.note):
                write_json(self.note, self._about)
        return begin

    def _need_room(self, begin: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if self.total is not None and self.total - begin > free:
            if not begin:
                self._forget()
            raise DownloadError(f'{self.path}: {(self.total - begin) / 1e6:,.0f} MB are to come, but only '
                                f'{free / 1e6:,.0f} MB are free there: make room, or choose another folder.'
                                f'{self._kept()}')

    def _take(self, response: Any, begin: int) -> None:
        with _on_the_disk(self.path):
            file = open(self.part, 'ab' if begin else 'wb', buffering=0)  # what is written is there, whatever comes
        with file:
            while block := response.read1(_BLOCK):
                with _on_the_disk(self.path):
                    rest = memoryview(block)
                    while rest:
                        rest = rest[file.write(rest):]
                begin += len(block)
                self.progress(self.path.name, begin, self.total or 0)
            with _on_the_disk(self.path):
                os.fsync(file.fileno())

    def _broken(self, error: OSError | HTTPException) -> str:
        """In words what may be tried again; everything else is raised."""
        if isinstance(error, _DiskError):
            raise error
        reason = error.reason if isinstance(error, URLError) else error
        words = 'no byte came in time' if isinstance(reason, TimeoutError) else \
            str(getattr(reason, 'strerror', None) or reason) or type(reason).__name__
        if not self._answered:
            raise DownloadError(f'{self._host()} cannot be reached: {words}. Elsewhere fetch {self.url} and put it '
                                f'here as {self.path}.{self._kept()}', unreached=words)
        return f'the connection broke off ({words})'

    def _refused(self, error: HTTPError) -> str:
        if error.code in _LATER:
            return f'the server answers {error.code} ({error.reason})'
        raise DownloadError(f'{self.url}: the server {_ANSWERS.get(error.code, "refuses")} ({error.code} '
                            f'{error.reason}).{self._kept()}', code=error.code)

    def _host(self) -> str:
        request = Request(self.url)
        proxy = None if proxy_bypass(request.host) else getproxies().get(request.type)
        return request.host + (f' (through the proxy {proxy.rpartition("@")[2]})' if proxy else '')

    def _kept(self) -> str:
        size = self.size
        return f' {size / 1e6:,.1f} MB are kept in {self.part}; the same command goes on' if size else ''


class _DiskError(OSError):
    """Of what is written here, not of what is read from afar."""


@contextmanager
def _on_the_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error.errno, error.strerror, str(path)) from error


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, never from https to http, and reads what the hub says of the file where it redirects."""

    def __init__(self, transfer: _Transfer) -> None:
        self._transfer = transfer

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        linked = str(headers.get(_LINKED, '')).strip('"')
        if len(linked) == 64 and set(linked) <= _HEX:
            self._transfer.told = linked
        if req.type == 'https' and not newurl.startswith('https:'):
            raise DownloadError(f'{req.full_url}: leads to {newurl}, which anybody on the way could change')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
