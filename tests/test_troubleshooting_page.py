"""docs/troubleshooting.md quotes messages that the package really gives."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUOTED = re.findall(r'^\| `([^`]+)` \|', (ROOT / 'docs' / 'troubleshooting.md').read_text(), re.MULTILINE)


@pytest.fixture(scope='module')
def messages():
    """All texts in the package, f-strings with a gap for what is filled in."""
    texts = []
    for path in (ROOT / 'weclip_sam').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append(''.join(part.value if isinstance(part, ast.Constant) else '\0' for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return '\n'.join(texts)


def test_there_are_quotations():
    assert len(QUOTED) > 10


@pytest.mark.parametrize('quoted', QUOTED)
def test_the_message_exists(quoted, messages):
    assert quoted in messages
