"""Standard output and error whose reader may go away: ``| head``, a closed terminal."""
from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that was closed


class _LastingStream:
    """A stream that swallows what nobody reads any more; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop."""
        with _unless_gone(self._stream):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        with _unless_gone(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _unless_gone(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
        # What is still buffered would fail again when the interpreter ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Go on quietly when the readers of stdout and stderr go away: a closed pipe costs no work, only its words.

    Characters that a stream cannot write come out as escapes. A stream that was closed from the start (``>&-``) writes
    to nowhere.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_lasting(stream) for stream in before)
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    swapped = [(handler, handler.setStream(new)) for handler in handlers for old, new in
               zip(before, (sys.stdout, sys.stderr), strict=True) if handler.stream is old]
    try:
        yield
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for handler, stream in swapped:
            handler.setStream(stream)
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None) -> Any:
    if stream is None:
        return open(os.devnull, 'w', encoding='utf-8')
    if hasattr(stream, 'reconfigure'):
        stream.reconfigure(errors='backslashreplace')
    return _LastingStream(stream)
