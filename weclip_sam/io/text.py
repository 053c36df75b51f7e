"""Text that people write: lists, tables, JSON. Every such file is read here, and every fault names file and line."""
from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weclip_sam.io.names import normal

# The longer ones first: UTF-32 begins like UTF-16.
_MARKS = ((codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF32_LE, 'utf-32-le'), (codecs.BOM_UTF32_BE, 'utf-32-be'),
          (codecs.BOM_UTF16_LE, 'utf-16-le'), (codecs.BOM_UTF16_BE, 'utf-16-be'))
SAVE = 'save it as UTF-8 (in an editor: Save as, encoding UTF-8; in a spreadsheet: CSV UTF-8)'


def decode_text(data: bytes, source: str) -> str:
    """Bytes of a text file as text, without its byte-order mark.

    UTF-8 is read with or without a mark; UTF-16 and UTF-32 with one, as Windows' editor writes them.

    Args:
        data: the whole content.
        source: names the file in errors.

    Raises:
        ValueError: naming the line that cannot be decoded and how to save the file, or saying that it is no text.
    """
    mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b'', 'utf-8'))
    content = data[len(mark):]
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[:error.start].decode(encoding, 'replace')
        kind = 'UTF-8' if encoding == 'utf-8' else encoding[:6].upper()
        raise ValueError(f'{source}, line {_line(before)}: not {kind} text ({error.reason} at byte '
                         f'{len(mark) + error.start}); {SAVE}') from None
    if '\0' in text:
        raise ValueError(f'{source}, line {_line(text[:text.index(chr(0))])}: contains NUL characters; it is no text '
                         f'file, or not UTF-8: {SAVE}')
    return text


def _line(before: str) -> int:
    """The number of the line that begins or goes on behind a text."""
    return len(before.replace('\r\n', '\n').replace('\r', '\n').split('\n'))


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file, see :func:`decode_text`.

    Raises:
        ValueError: naming file and line.
        OSError: it cannot be read.
    """
    return decode_text(Path(path).read_bytes(), os.fspath(path))


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file that are not blank, without outer blanks, in normal form.

    Raises:
        ValueError: see :func:`read_text`.
    """
    return [normal(line.strip()) for line in read_text(path).splitlines() if line.strip()]


def read_json(path: str | os.PathLike[str], what: str = '', fix: str = '',
              pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value in a JSON file.

    Args:
        path: the file.
        what: comes before the file's name in errors, ``'CLIP card'`` for instance.
        fix: ends them: what to do about a file that is none.
        pairs: makes an object of its pairs, as for :func:`json.loads`; its ValueErrors get the file's name.

    Raises:
        ValueError: naming the file and, where there is one, the line.
        OSError: it cannot be read.
    """
    return parse_json(Path(path).read_bytes(), f'{what} {path}'.strip(), fix, pairs)


def parse_json(content: bytes, source: str, fix: str = '',
               pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value in the bytes of a JSON file; see :func:`read_json`. ``source`` names it in errors."""
    end = f'; {fix}' if fix else ''
    text = decode_text(content, source)
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f'{source}, line {error.lineno}: not valid JSON ({error.msg}){end}') from None
    except RecursionError:
        raise ValueError(f'{source}: nested too deeply for JSON{end}') from None
    except ValueError as error:  # of pairs, or a number of thousands of digits
        raise ValueError(f'{source}: {error}{end}') from None
