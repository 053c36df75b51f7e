"""CITATION.cff: what version 1.2.0 of the format asks for, this package's version, and the same papers as the page."""
import re
from pathlib import Path

import yaml

import weclip_sam

ROOT = Path(weclip_sam.__file__).parents[1]
CITATION = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
PAGE = (ROOT / 'docs' / 'citing.md').read_text(encoding='utf-8')
ENTRIES = {match[1]: match[2] for match in re.finditer(r'^@\w+\{(\w+),\n(.*?)^\}', PAGE, re.M | re.S)}
TYPES = {'conference-paper', 'article', 'generic'}
INTEGERS = {'year', 'volume', 'start', 'end'}


def plain(text):
    """Of a BibTeX field or a YAML string: letters alone, without TeX's braces and accents."""
    return re.sub(r'[^a-z0-9]', '', re.sub(r'\\["\']', '', text).translate(str.maketrans('äéüá', 'aeua')).lower())


def fields_of(entry):
    return {match[1]: ' '.join(match[2].split())
            for match in re.finditer(r'^  (\w+) *= \{(.*?)\},?$(?=\n  \w|\n*\Z)', entry, re.M | re.S)}


def test_what_the_format_asks_for():
    assert CITATION['cff-version'] == '1.2.0' and CITATION['type'] == 'software'
    assert CITATION['message'] and CITATION['title'].startswith('weclip_sam')
    assert CITATION['authors'] == [dict(name='The weclip_sam authors')] and CITATION['license'] == 'Apache-2.0'
    assert set(CITATION) <= {'cff-version', 'message', 'title', 'type', 'authors', 'version', 'license', 'keywords',
                             'references'}
    for reference in CITATION['references']:
        assert reference['type'] in TYPES and reference['title'], reference
        assert reference['authors'] and all(set(person) == {'family-names', 'given-names'}
                                            for person in reference['authors'])
        assert all(isinstance(value, int) for key, value in reference.items() if key in INTEGERS)
        assert set(reference) <= INTEGERS | {'type', 'title', 'authors', 'collection-title', 'journal', 'status',
                                             'issue', 'doi', 'url'}


def test_the_version_is_the_package_s():
    assert str(CITATION['version']) == weclip_sam.__version__ == fields_of(ENTRIES['weclip_sam'])['version']


def test_page_and_file_cite_the_same_papers():
    papers = {key: fields_of(entry) for key, entry in ENTRIES.items() if key != 'weclip_sam'}
    by_title = {plain(paper['title']): paper for paper in papers.values()}
    assert len(by_title) == len(papers) == len(CITATION['references']) > 10
    for reference in CITATION['references']:
        paper = by_title[plain(reference['title'])]
        people = ' and '.join(f'{who["family-names"]}, {who["given-names"]}' for who in reference['authors'])
        assert plain(paper['author']) == plain(people) and paper['year'] == str(reference['year'])
        assert paper.get('doi') == reference.get('doi')
        assert paper.get('volume') == (str(reference['volume']) if 'volume' in reference else None)
        assert paper.get('pages') == (f'{reference["start"]}--{reference["end"]}' if 'start' in reference else None)


def test_every_paper_is_asked_for_somewhere_and_no_other_one():
    named = set(re.findall(r'`([a-z]+\d{4}\w+)`', PAGE))
    assert named == set(ENTRIES) - {'weclip_sam'}
