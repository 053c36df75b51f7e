"""What methods are called: in the experiment, on a command line, in paths."""
from __future__ import annotations

import re
from collections.abc import Iterable

from weclip_sam.checks import suggest_name


def folder_name(name: str) -> str:
    """A name as part of a path, and as a word of a command line: lower case, ``plus`` for +, and a dash for everything
    but letters, digits, dot and underscore."""
    return re.sub(r'[^a-z0-9._]+', '-', name.lower().replace('+', '-plus ')).strip('-.') or 'method'


def method_named(name: str, methods: Iterable[str]) -> str:
    """The method that somebody means by its name or by its :func:`folder_name`, in capitals or not.

    Raises:
        ValueError: there is none, naming the nearest.
    """
    by_word = {folder_name(each): each for each in methods}
    if name in by_word.values():
        return name
    if folder_name(name) not in by_word:
        near = suggest_name(folder_name(name), by_word)
        raise ValueError(f"no method is called '{name}'.{near} There are: {', '.join(by_word)}")
    return by_word[folder_name(name)]
