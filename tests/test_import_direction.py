"""The package's layers import downwards only, and siblings do not import each other."""
import ast
from pathlib import Path

import pytest

import weclip_sam

ROOT = Path(weclip_sam.__file__).parent
BASE = {'checks', 'registry', 'files', 'rle'}
ALLOWED = {
    'checks': set(), 'registry': set(), 'files': set(), 'rle': {'checks'},
    'structures': BASE,
    'mask_bank': BASE | {'structures'},
    **{room: BASE | {'structures', 'mask_bank', room}
       for room in ('datasets', 'foundation', 'seeds', 'evaluation', 'visualization')}}
BELOW = set().union(*ALLOWED.values()) | set(ALLOWED)
ALLOWED['models'] = BELOW | {'models'}
ALLOWED['engine'] = BELOW | {'models', 'engine'}
ALLOWED['api'] = BELOW | {'models', 'engine'}
ALLOWED['__init__'] = BELOW | {'models', 'engine', 'api'}


def imported_rooms(path: Path) -> set[str]:
    """First component below weclip_sam of everything the file imports from the package."""
    package = ('weclip_sam', *path.relative_to(ROOT).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = list(package[:len(package) - node.level + 1]) if node.level else []
            base = prefix + (node.module.split('.') if node.module else [])
            names = [base] if len(base) > 1 else [[*base, alias.name] for alias in node.names]
        else:
            continue
        rooms |= {parts[1] for parts in names if len(parts) > 1 and parts[0] == 'weclip_sam'}
    return {room for room in rooms if (ROOT / room).is_dir() or (ROOT / f'{room}.py').is_file()}


FILES = sorted(ROOT.rglob('*.py'))


def test_the_package_was_found():
    assert len(FILES) > 40
    assert {'seeds', 'models'} <= imported_rooms(ROOT / 'models' / 'weclip.py')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    parts = path.relative_to(ROOT).parts
    room = parts[0] if len(parts) > 1 else path.stem
    assert imported_rooms(path) <= ALLOWED[room], f'{path.relative_to(ROOT)} imports from a room above or beside it'
