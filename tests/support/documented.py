"""Commands and links as documents give them, and what a command's own parser says to its arguments."""
from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS = ('python tools/', 'python tests/', 'python -m ', 'weclip-sam ', 'tools/check', 'pip ', 'pytest ', 'torchrun ',
          'srun ', 'mpirun ')
_FENCE = re.compile(r'^( *)```(\w*)[^\n]*\n(.*?)^\1```', re.S | re.M)
_SPAN = re.compile(r'(?<!`)`([^`]+)`(?!`)')
_LINK = re.compile(r'\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)="([^"]+)"', re.M)
_COMMAND_BREAKS = re.compile(r'\s(?:&&|\|\|?|;|>|<)\s')


@dataclass(frozen=True)
class Command:
    """A command of a document: ``words`` without a prompt, variables before it, and comments."""

    file: Path
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.file.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}'


def fenced_commands(path: Path) -> list[Command]:
    """Of the code blocks of a Markdown file, those that begin with one of ``STARTS``."""
    text = path.read_text(encoding='utf-8')
    return [command for match in _FENCE.finditer(text) if match[2] not in ('python', 'json', 'csv')
            for command in _commands(path, match[3], text.count('\n', 0, match.start(3)) + 1)]


def inline_commands(path: Path) -> list[Command]:
    """Of the text of a Markdown file, what stands in backticks, has arguments and begins with one of ``STARTS``."""
    text = path.read_text(encoding='utf-8')
    text = _FENCE.sub(lambda match: '\n' * match[0].count('\n'), text)
    found = [command for match in _SPAN.finditer(text)
             for command in _commands(path, ' '.join(match[1].split()), text.count('\n', 0, match.start()) + 1)]
    return [command for command in found if (call := call_of(command)) is None or call.arguments]


def docstring_commands(path: Path) -> list[Command]:
    """Of the indented lines of a Python file's docstring."""
    text = path.read_text(encoding='utf-8').split('"""')[1]
    block = ''.join(line if line.startswith('    ') else '\n' for line in text.splitlines(keepends=True))
    return _commands(path, block, 1)


def _commands(path: Path, text: str, line: int) -> list[Command]:
    found = []
    for number, given in _joined(text):
        said = re.split(r'(?<=\S) {3}', given.strip())[0]  # after a gap comes what it does
        for part in _COMMAND_BREAKS.split(re.sub(r'^(\$ )?([A-Z_]+=\S* )*', '', said)):
            if f'{part} '.startswith(STARTS):
                found.append(Command(path, line + number, tuple(shlex.split(part, comments=True))))
    return found


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 0; those that end in a backslash go on in the next."""
    begun, first = '', 0
    for number, line in enumerate(text.splitlines()):
        first = first if begun else number
        begun += line.strip() if begun else line
        if begun.endswith('\\'):
            begun = f'{begun[:-1].rstrip()} '
        else:
            yield first, begun
            begun = ''


@dataclass(frozen=True)
class Call:
    """The program of a command: a module of :mod:`weclip_sam.cli`, or a script; and its arguments."""

    module: str | None  # '' for weclip-sam without a command
    script: Path | None
    arguments: tuple[str, ...]


def call_of(command: Command) -> Call | None:
    """What a command runs of ours, behind ``torchrun`` and its like; None where it is another's program."""
    words = list(command.words)
    for place, word in enumerate(words):
        if word == 'weclip-sam' or (word == 'weclip_sam' and words[place - 1] == '-m'):
            rest = words[place + 1:]
            named = bool(rest) and not rest[0].startswith('-')
            return Call(rest[0].replace('-', '_') if named else '', None, tuple(rest[1:]))
        if re.fullmatch(r'(tools|tests)/[\w/]+(\.py)?', word) and words[0] != 'pytest':
            script, rest = ROOT / word, tuple(words[place + 1:])
            ours = (ROOT / 'weclip_sam' / 'cli' / f'{script.stem}.py').is_file() and script.parent == ROOT / 'tools'
            return Call(script.stem if ours else None, script, rest)
    return None


class _Parsed(Exception):
    def __init__(self, namespace: argparse.Namespace) -> None:
        super().__init__()
        self.namespace = namespace


@contextmanager
def _stopped_after_parsing() -> Iterator[None]:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        raise _Parsed(parse(self, args, namespace))
    argparse.ArgumentParser.parse_args = parse_and_stop
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args = parse


def parsed(module: str, arguments: tuple[str, ...]) -> argparse.Namespace | str:
    """What a command makes of its arguments, before it does anything; or the line in which it refuses them.

    Args:
        module: its full name; it has a ``main`` that parses with argparse.
    """
    main, said = importlib.import_module(module).main, StringIO()
    try:
        with _stopped_after_parsing(), redirect_stderr(said):
            main(list(arguments))
    except _Parsed as done:
        return done.namespace
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    raise AssertionError(f'{module} did not parse its arguments')


def links_of(path: Path) -> list[tuple[int, str]]:
    """Line and target of the links and pictures of a Markdown file that lead to no other machine."""
    text = _FENCE.sub(lambda match: '\n' * match[0].count('\n'), path.read_text(encoding='utf-8'))
    text = _SPAN.sub(lambda match: '`' + ' ' * len(match[1]) + '`' if '\n' not in match[1] else match[0], text)
    links = [(text.count('\n', 0, match.start()) + 1, next(filter(None, match.groups())))
             for match in _LINK.finditer(text)]
    return [(line, link) for line, link in links if not re.match(r'[a-z]+:', link)]


def anchors_of(path: Path) -> set[str]:
    """What ``#`` may lead to in a Markdown file, as GitHub names its headings."""
    text = _FENCE.sub('', path.read_text(encoding='utf-8'))
    anchors: set[str] = set(re.findall(r'<a (?:name|id)="([^"]+)"', text))
    for heading in re.findall(r'^#{1,6} +(.+?)(?: +#+)?$', text, re.M):
        shown = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', heading).replace('`', '')
        anchor = re.sub(r'[^\w\- ]', '', shown.lower()).strip().replace(' ', '-')
        number = 0
        while (numbered := f'{anchor}-{number}' if number else anchor) in anchors:
            number += 1
        anchors.add(numbered)
    return anchors
