"""What is no Python file is installed only if setup.cfg names it."""
import configparser
from pathlib import Path

import weclip_sam

ROOT = Path(weclip_sam.__file__).parent


def test_every_file_of_the_package_is_installed():
    setup = configparser.ConfigParser()
    assert setup.read(ROOT.parent / 'setup.cfg')
    declared = set()
    for package, patterns in setup['options.package_data'].items():
        folder = ROOT.parent.joinpath(*package.split('.'))
        for pattern in filter(None, (part.strip() for part in patterns.replace('\n', ',').split(','))):
            found = set(folder.glob(pattern))
            assert found, f'setup.cfg: {package} has no {pattern}'
            declared |= found
    there = {path for path in ROOT.rglob('*') if path.is_file() and path.suffix not in ('.py', '.pyc')}
    assert len(there) > 3
    assert not there - declared, f'not installed: {sorted(map(str, there - declared))}'
