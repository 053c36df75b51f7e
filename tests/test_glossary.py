"""The glossary: in alphabetical order, two lines a term, each seed step that it names is there."""
import re
from pathlib import Path

from weclip_sam.registry import SEED_STEPS

PAGE = (Path(__file__).parents[1] / 'docs' / 'glossary.md').read_text(encoding='utf-8')
ENTRIES = re.findall(r'^- \*\*(.+?)\.\*\*(.*?)(?=^- |\Z)', PAGE, re.M | re.S)


def test_terms_are_in_order_and_short():
    terms = [re.sub(r'[^a-z0-9 ]', '', term.lower()) for term, _ in ENTRIES]
    assert terms == sorted(set(terms)) and len(terms) > 30
    assert [term for term, text in ENTRIES if text.strip().count('\n') > 1] == []
    for wanted in ('cam', 'seed', 'bank', 'votes', 'thinning', 'rfm', 'caa', 'par', 'crf', 'eye', 'argmax', 'tune',
                   'labels', 'sams', 'box threshold'):
        assert any(term.startswith(wanted) for term in terms), wanted


def test_steps_that_it_names_exist():
    steps = set(re.findall(r'`([A-Z][a-z]+(?:[A-Z]\w*)?)`', PAGE))
    assert steps and {step for step in steps if SEED_STEPS.get(step) is None} == set()
