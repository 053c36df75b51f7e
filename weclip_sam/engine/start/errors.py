"""Turning what a user can mend into one line, instead of sixty lines of somebody's internals."""
from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import shutil
import signal
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
from mmengine.registry import Registry
from torch import distributed

from weclip_sam.checks import suggest_name
from weclip_sam.commands import tool
from weclip_sam.engine.start.kinds import all_registries, registered
from weclip_sam.engine.start.together import begin_to_leave, is_first_to_end, leave, others_ended
from weclip_sam.io.files import atomic_open
from weclip_sam.io.new_folders import unused_folders_removed
from weclip_sam.io.parallel import WorkerError
from weclip_sam.io.pipes import lasting_output

_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (\S+)::(.+?) registry')
_UNKNOWN_ARGUMENT = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_NO_ARGUMENTS = re.compile(r'^(\w+)\(\) takes no arguments$')
_NO_PATH = re.compile(r'expected str, bytes or os\.PathLike object, not (\w+)'
                      r'|argument should be a str or an os\.PathLike object .*not \'?(\w+)')
_PEER_GONE = re.compile(r'[Cc]onnection (closed by peer|reset by peer|refused)|Broken pipe|gloo/transport|NCCL error')
_MISSING_ARGUMENT = re.compile(r'(\w+)(?:\.__init__)?\(\) missing \d+ required')
_DISK = {errno.ENOSPC: 'the disk is full', errno.EDQUOT: 'the disk quota is used up',
         errno.EROFS: 'the file system is read-only', errno.EFBIG: 'it is larger than files may be here (ulimit -f)'}
_PATH = {errno.ENOENT: 'no such file or folder', errno.EEXIST: 'a file of that name is in the way',
         errno.EISDIR: 'is a folder, expected a file', errno.ENOTDIR: 'no folder, or a part of this path is a file',
         errno.ENAMETOOLONG: 'this name is longer than the file system allows, rename it',
         errno.EACCES: 'cannot be read or written, permission denied',
         errno.EPERM: 'cannot be read or written, permission denied'}


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), by a scheduler for instance."""


def _known_types(scope: str, name: str) -> set[str]:
    """Names that a registry and its parents know."""
    known: set[str] = set()
    for registry in all_registries():
        if registry.scope == scope and registry.name == name:
            known |= registered_names(registry)
    return known


def registered_names(registry: Registry) -> set[str]:
    """Everything that a registry and its parents know."""
    registry.import_from_location()
    known, level = set(), registry
    while level is not None:
        known.update(level.module_dict)
        level = level.parent
    return known


def explain(error: BaseException, folder: str | None = None) -> str | None:
    """One line that says what is wrong and what to do, or None if nobody foresaw the error.

    Args:
        error: what was raised.
        folder: where the program writes, for a full disk whose error names no file.
    """
    text, remote = _message(error), 'Original Traceback' in str(error)
    if isinstance(error, KeyError) and (match := _UNKNOWN_TYPE.search(text)):
        name, scope, kind = match.groups()
        return f"no {kind} is called '{name}'.{suggest_name(name, _known_types(scope, kind))}"
    if isinstance(error, TypeError) and (match := _UNKNOWN_ARGUMENT.search(text)):
        owner, argument = match.groups()
        target = registered(owner)
        accepted = sorted(inspect.signature(target).parameters) if target else []
        hint = suggest_name(argument, accepted) or (f' It takes: {", ".join(accepted)}.' if accepted else '')
        return f"{owner} takes no argument '{argument}'.{hint}"
    if isinstance(error, TypeError) and (match := _NO_ARGUMENTS.search(text)) and registered(match.group(1)):
        return f'{match.group(1)} takes no settings besides its type'
    if isinstance(error, TypeError) and (match := _MISSING_ARGUMENT.search(text)) and registered(match.group(1)):
        return f'{text.replace(".__init__()", "")}; add it to the config'
    if isinstance(error, TypeError) and (match := _NO_PATH.search(text)):
        kind = match.group(1) or match.group(2)
        return (f'a path or a name was expected, got {kind}: a setting holds a number, None or a list where it goes; '
                'write it in quotes in a config, and on a command line with a folder before it, as in data_root=./2024')
    if _is_out_of_memory(error, text):
        return ('out of memory: a smaller batch_size (--batch-size), crop or image (max_side), or fewer '
                f'points_per_chunk of the mask generator need less. {" ".join(text.split())[:200]}'.rstrip())
    if isinstance(error, zlib.error):
        return f'a compressed file (PNG, NPZ, zip) is damaged: {text}; {tool("check_data")} finds out which'
    if isinstance(error, distributed.DistError) or isinstance(error, RuntimeError) and _PEER_GONE.search(text):
        return ('another process of this run is gone without a word (killed, out of memory, or its machine). What was '
                f'written is intact; the same command goes on, {tool("train")} with --resume')
    if isinstance(error, OSError) and error.errno in _DISK:
        where = _where(error) or folder
        free = _free_space(where) if where and error.errno == errno.ENOSPC else ''
        return f'{where or "a file"}: cannot be written, {_DISK[error.errno]}{free}. Earlier results are intact.'
    denied = isinstance(error, PermissionError) and error.errno is not None
    if isinstance(error, OSError) and error.errno is not None and (
            where := _where(error) or (folder or 'a file' if denied else '')):
        return f'{where}: {_PATH.get(error.errno, error.strerror)}'
    if isinstance(error, RuntimeError) and 'DataLoader worker' in text and ('exited' in text or 'killed' in text):
        return ('a data worker died (out of memory, perhaps: fewer workers or a smaller batch_size help). What was '
                f'written is intact; the same command goes on, {tool("train")} with --resume. '
                f'{text.splitlines()[0]}')
    if isinstance(error, UnicodeDecodeError):
        return f'a text file is not in UTF-8 ({text}); save it as UTF-8'
    if isinstance(error, (ValueError, FileNotFoundError, WorkerError)) or remote and isinstance(error, OSError):
        return text or None
    return None


def _message(error: BaseException) -> str:
    text = str(error.args[0]) if error.args and isinstance(error, KeyError) else str(error)
    if 'Original Traceback' in text:  # raised in a data worker: the last line is the error itself
        text = text.strip().splitlines()[-1].split(': ', 1)[-1]
    return text


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    asked = isinstance(error, RuntimeError) and not isinstance(error, WorkerError)
    return asked and ("can't allocate memory" in text or 'out of memory' in text)


def _where(error: OSError) -> str:
    """The file an error is about, or nothing; of a failing move, what was to be replaced."""
    name = error.filename if error.filename2 is None else error.filename2
    return '' if name is None else os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)


def _free_space(where: str) -> str:
    folder = Path(where).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f' ({shutil.disk_usage(folder).free / 1e6:.0f} MB free)'
    except OSError:
        return ''


@contextmanager
def friendly_errors(log_dir: Callable[[], str | None] = lambda: None,
                    on_stop: Callable[[], str] = lambda: '') -> Iterator[None]:
    """Run a command: whatever ends it, it ends with one line and exit code 2.

    The line says what is wrong and what to do; where nobody foresaw the error, that it looks like a fault of the
    program. A folder that was made for results and is empty still goes again. A full disk ends it so, too, whatever was
    being written; log lines that no longer fit are left out in silence. SIGTERM is raised as :class:`Terminated` in the
    block, so that files are closed and workers end; exit code 143 (130 after Ctrl-C). Where nobody reads the output any
    more (``| head``), the command goes on in silence. Of several processes the first that fails says why, and all end.
    ``WECLIP_SAM_TRACEBACK=1`` shows every traceback.

    Args:
        log_dir: where everything is written, if it returns a folder: named when a full disk's error names no file. The
            traceback is kept there as ``error.txt``, if nobody foresaw the error or something else lies there.
        on_stop: what to tell somebody who interrupted the run, or whose disk was full: how to go on.
    """
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        with lasting_output():
            try:
                with unused_folders_removed(), _quiet_about_the_disk():
                    yield
            except (Exception, KeyboardInterrupt) as error:
                _end(error, log_dir(), on_stop)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(error: BaseException, folder: str | None, on_stop: Callable[[], str]) -> NoReturn:
    stop = _interruption(error)
    begin_to_leave()
    if os.environ.get('WECLIP_SAM_TRACEBACK') and stop is None:
        is_first_to_end()
        raise error
    if others_ended():  # this is what came of it: that one has said why
        leave(2)
    if stop is not None:
        if is_first_to_end():
            print(f'stopped. {on_stop()}'.rstrip(), file=sys.stderr)
        leave(143 if isinstance(stop, Terminated) else 130)
    message = explain(error, folder)
    if message is not None and _is_of_the_disk(error):
        message = f'{message} {on_stop()}'.rstrip()
    kept = _keep_traceback(folder, needed=message is None)
    if message is None:
        where = kept or 'what WECLIP_SAM_TRACEBACK=1 shows'
        perhaps = '' if _is_of_this_package(error) else 'a setting may not fit; if all do, '
        line = f'{_first_words(error)}: {perhaps}this looks like a fault of the program itself; please report {where}'
    else:
        line = message + (f' (traceback: {kept})' if kept else '')
    if is_first_to_end():
        sys.stderr.write(f'error: {line}\n')  # whole: a thread may write its line at the same time
    leave(2)


def _is_of_this_package(error: BaseException) -> bool:
    """Whether it was raised here, and not by a library that was asked for something."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parents[2])


def _first_words(error: BaseException) -> str:
    """Class and message of an error, on one line."""
    text = ' '.join(_message(error).split())
    name = type(error).__name__
    return f'{name}: {text[:400]}{"..." if len(text) > 400 else ""}' if text else name


def _is_of_the_disk(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK


@contextmanager
def _quiet_about_the_disk() -> Iterator[None]:
    """No tracebacks from log handlers and writing threads (TensorBoard's) when the disk is full.

    Such a thread's error comes to the main thread at its next write, if there is one: the first is told in one line. A
    log handler's loss is no reason to stop.
    """
    handle_error, hook = logging.Handler.handleError, threading.excepthook
    afterwards, told = hook, False

    def handle(handler: logging.Handler, record: logging.LogRecord) -> None:
        if not _is_of_the_disk(sys.exc_info()[1]):
            handle_error(handler, record)

    def quiet(args: threading.ExceptHookArgs) -> None:
        nonlocal told
        error = args.exc_value
        if not isinstance(error, OSError) or error.errno not in _DISK:
            hook(args)
        elif not told:
            told = True
            with suppress(OSError):  # stderr may be a file on that disk
                sys.stderr.write(f'error: {_where(error) or "a file"}: cannot be written, {_DISK[error.errno]}: events '
                                 'of TensorBoard or the like are lost\n')
    logging.Handler.handleError = handle  # type: ignore[method-assign, assignment]  # for all handlers there are
    threading.excepthook = quiet
    try:
        yield
    except OSError as error:
        if _is_of_the_disk(error):
            afterwards, told = quiet, True  # the other threads may still notice while the program ends
        raise
    finally:
        logging.Handler.handleError = handle_error  # type: ignore[method-assign]  # put back
        threading.excepthook = afterwards


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interruption behind an error: some libraries catch everything and raise something of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _keep_traceback(folder: str | None, needed: bool) -> str:
    """Its path. Of an error that is told in a line, only where the folder holds something already."""
    if not folder or not needed and not os.path.isdir(folder):
        return ''
    try:
        with atomic_open(Path(folder) / 'error.txt', 'w') as file:
            file.write(traceback.format_exc())
    except OSError:
        return ''
    return str(Path(folder) / 'error.txt')
