"""One door to all commands: ``weclip-sam train CONFIG``, or ``python -m weclip_sam train CONFIG``.

A command is a module of this package that has a function ``main``. Only the one that is called is imported: torch takes
seconds, and ``--help`` is to take none.
"""
from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import platform
import re
import sys
from importlib import metadata, util

import weclip_sam
import weclip_sam.cli
from weclip_sam.checks import suggest_name
from weclip_sam.commands import CONSOLE, DOOR, MODULE, as_typed
from weclip_sam.io.config_files import configs_folder
from weclip_sam.io.pipes import lasting_output

_HELP = '-h', '--help', 'help'
_VERSION = '-V', '--version', 'version'


def commands() -> dict[str, str]:
    """What each command does, in a few words, by the name of its module. None is imported."""
    return {module.name: said for module in pkgutil.iter_modules(weclip_sam.cli.__path__)
            if module.name != 'main' and (said := _said_of(module.name)) is not None}


def _said_of(name: str) -> str | None:
    """The first words of a module's docstring; None where it has no ``main`` and is no command."""
    spec = util.find_spec(f'weclip_sam.cli.{name}')
    source = getattr(spec and spec.loader, 'get_source', lambda _: None)(f'weclip_sam.cli.{name}')
    if source is None:
        return ''
    tree = ast.parse(source)
    if not any(isinstance(node, ast.FunctionDef) and node.name == 'main' for node in tree.body):
        return None
    # Of "Train a model: ``python tools/train.py CONFIG``." the first three words.
    first = ' '.join((ast.get_docstring(tree) or '').partition('\n\n')[0].split())
    return re.split(r':? ``|[.:]( |$)', first)[0]


def help_text(program: str) -> str:
    """What ``--help`` prints."""
    known = commands()
    width = max(map(len, known))
    lines = [f'usage: {program} COMMAND ...', '', (weclip_sam.__doc__ or '').partition('\n')[0], '', 'commands:',
             *(f'  {as_typed(name):<{width}}  {said}' for name, said in known.items()), '',
             f'{program} COMMAND --help says what a command takes, {program} --version what is installed.']
    return '\n'.join(lines)


def version_text() -> str:
    """What ``--version`` prints: versions, and where the package and its configs lie."""
    versions = [f'weclip_sam {weclip_sam.__version__}', *(f'{name} {_version(name)}' for name in (
        'torch', 'torchvision')), f'Python {platform.python_version()}']
    return f'{", ".join(versions)}\npackage: {weclip_sam.__path__[0]}\nconfigs: {configs_folder()}'


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return 'is not installed'


def main(argv: list[str] | None = None) -> int | None:
    """Run the command that the arguments name; returns or exits as that does, with 2 where there is none of it."""
    given = list(sys.argv[1:] if argv is None else argv)
    program = MODULE if os.path.basename(sys.argv[0]) == '__main__.py' else CONSOLE
    if given[:1] == ['help'] and len(given) > 1:  # as git takes it
        given = [given[1], '--help']
    with lasting_output():
        if not given or given[0] in _HELP:
            print(help_text(program), file=sys.stdout if given else sys.stderr)
            return 0 if given else 2
        if given[0] in _VERSION:
            print(version_text())
            return 0
        name, known = given[0].replace('-', '_'), commands()
        if name not in known:
            near = suggest_name(as_typed(name), map(as_typed, known)) or f' {program} --help lists them'
            print(f"error: no command is called '{given[0]}'.{near}", file=sys.stderr)
            return 2
    # Messages, and the processes that the command starts, are to say how it is called.
    os.environ[DOOR] = program
    sys.argv = [f'{program} {as_typed(name)}', *given[1:]]
    try:
        command = importlib.import_module(f'weclip_sam.cli.{name}')
    except ImportError as error:  # a package is missing, or two do not go together
        if os.environ.get('WECLIP_SAM_TRACEBACK'):
            raise
        print(f'error: {sys.argv[0]}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while torch is read
        return 130
    return command.main(given[1:])
