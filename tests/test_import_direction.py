"""The package's rooms import downwards only, and rooms of one floor do not import each other."""
import ast
from pathlib import Path

import pytest

import weclip_sam

ROOT = Path(weclip_sam.__file__).parent
# From the ground up. A room may use every floor below its own; what everybody speaks may use itself.
FLOORS = (
    {'bits', 'checks', 'choices', 'colors', 'commands', 'features', 'registry', 'structures', 'torch_versions',
     'words'},
    {'io'},
    {'mask_bank'},
    {'datasets', 'foundation', 'seeds', 'evaluation', 'visualization'},
    {'models'},
    {'engine', 'result'},
    {'offline'},
    {'checking', 'comparison', 'export', 'review'},
    {'api', 'jobs'},
    {'demo'},
    {'cli', '__init__'},
    {'__main__'},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]


def imported_rooms(path: Path) -> set[str]:
    """First component below weclip_sam of everything the file imports from the package, wherever in the file."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or '').split('.')
            names = [base] if len(base) > 1 else [[*base, alias.name] for alias in node.names]
        else:
            continue
        rooms |= {parts[1] for parts in names if len(parts) > 1 and parts[0] == 'weclip_sam'}
    return {room for room in rooms if (ROOT / room).is_dir() or (ROOT / f'{room}.py').is_file()}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


def may_import(room: str, other: str) -> bool:
    return room == other or HEIGHT[other] < HEIGHT[room] or {room, other} <= GROUND


FILES = sorted(ROOT.rglob('*.py'))


def test_the_package_was_found():
    assert len(FILES) > 40
    assert {'seeds', 'models'} <= imported_rooms(ROOT / 'models' / 'weclip.py')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room = room_of(path)
    assert room in HEIGHT, f'{room} has no floor: give it one in FLOORS (and in docs/architecture.md)'
    wrong = {other for other in imported_rooms(path) if not may_import(room, other)}
    assert not wrong, f'{path.relative_to(ROOT)} imports from a room above or beside it: {sorted(wrong)}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_absolute(path):
    relative = [node.lineno for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f'{path.relative_to(ROOT)}: relative imports in lines {relative}'


@pytest.mark.parametrize('room, other, allowed', [
    ('io', 'structures', True), ('structures', 'checks', True), ('models', 'seeds', True), ('offline', 'engine', True),
    ('io', 'datasets', False), ('datasets', 'seeds', False), ('visualization', 'evaluation', False),
    ('engine', 'offline', False), ('checking', 'comparison', False), ('api', 'cli', False)])
def test_the_law_itself(room, other, allowed):
    assert may_import(room, other) is allowed
