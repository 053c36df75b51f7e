"""The page in a browser: keys, filters, marks, links, and that it stays quick with thousands of images."""
from dataclasses import replace

import numpy as np
import pytest
from blocks import CLASSES, blocks
from headless import Browser, needs_chromium

from weclip_sam.offline.results import open_labels
from weclip_sam.review.make import make_review

pytestmark = [needs_chromium, pytest.mark.slow]
NAME = 'document.getElementById("name").textContent'
SHOWN = 'document.getElementById("count").textContent'


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp('profile')) as browser:
        yield browser


@pytest.fixture
def page(label_folder, tmp_path):
    """A function: makes a page of a folder and returns its address."""
    def make(folder, **options):
        out = tmp_path / 'out'
        out.mkdir(exist_ok=True)
        return make_review(folder, out, workers=1, **options).page.as_uri()
    return make


@pytest.fixture
def five(label_folder):
    return open_labels(label_folder(
        e=dict(labels=blocks(1), names=['cup'], confidence=blocks(250), scores={'cup': 0.98}),
        d=dict(labels=blocks(2), names=['table'], scores={'table': 0.8}),
        c=dict(labels=blocks(1), names=['cup', 'table'], scores={'cup': 0.7}),
        b=dict(labels=blocks(0, 3), names=['cup'], scores={CLASSES[3]: 0.6}, doubt_map=blocks(0, 5),
               confidence=blocks(60, 250), named={'cup': 0.1}),
        a=dict(labels=blocks(0), names=['cup'], doubts={'decoder': 0.95})))


def rows(browser):
    return browser.run('[...document.querySelectorAll(".row b")].map(each => each.textContent)')


def choose(browser, id_, value):
    browser.run(f'(e => {{ e.value = {value!r}; e.dispatchEvent(new Event("change")); }})'
                f'(document.getElementById({id_!r}))')


def test_the_worst_is_shown_and_keys_page(browser, page, five):
    browser.open(page(five))
    assert rows(browser) == ['a', 'b', 'c', 'd', 'e'] and browser.run(NAME) == 'a'
    for key, name in (('ArrowRight', 'b'), ('j', 'c'), ('ArrowDown', 'd'), ('End', 'e'), ('j', 'e'), ('k', 'd'),
                      ('ArrowLeft', 'c'), ('ArrowUp', 'b'), ('Home', 'a'), ('k', 'a'), ('PageDown', 'e')):
        browser.press(key)
        assert browser.run(NAME) == name, key
    assert browser.run('document.querySelector(".row[aria-current=true] b").textContent') == 'e'
    assert not browser.errors


def test_layers_are_toggled(browser, page, five):
    browser.open(page(five) + '#b')
    assert browser.run(NAME) == 'b'
    hidden = 'document.getElementById("layer-{}").hidden'
    assert [browser.run(hidden.format(layer)) for layer in ('labels', 'confidence', 'cam', 'decoder')] == [
        False, True, True, True]
    assert browser.run('document.getElementById("layer-sam")') is None  # agrees everywhere
    for key in 'hcdu':
        browser.press(key)
    assert [browser.run(hidden.format(layer)) for layer in ('labels', 'confidence', 'cam', 'decoder')] == [
        True, False, False, False]
    browser.run('(e => { e.value = 0.3; e.dispatchEvent(new Event("input")); })(document.querySelector('
                '"#layers input[type=range]"))')
    assert browser.run('document.getElementById("layer-labels").style.opacity') == '0.3'
    browser.wait('[...document.querySelectorAll("#stage img")].every(each => each.complete && each.naturalWidth)')


def test_names_are_text_and_chips_say_what_contradicts(browser, page, five):
    browser.open(page(five) + '#b')
    chips = browser.run('[...document.querySelectorAll(".chip")].map(each => each.className + "|" + each.textContent)')
    assert chips == ['chip absent|cup (not labelled)', f'chip extra|{CLASSES[3]} (not named)']
    told = browser.run('[...document.querySelectorAll("#facts li")].map(each => each.textContent)')
    assert told[0] == 'named, but nowhere labelled: cup' and 'the decoder disagrees on 50 %' in told
    assert browser.run('document.querySelectorAll("#facts b").length') == 0
    assert '0.10' in browser.run('[...document.querySelectorAll("#facts td")].map(each => each.textContent)')
    assert browser.run('document.querySelectorAll("#facts .low").length') == 0  # of so few photos CLIP says nothing
    assert browser.run('document.querySelector("#name").href').endswith('/photos/b.jpg')


def test_filters(browser, page, five):
    browser.open(page(five))
    kinds = browser.run('[...document.querySelectorAll("#kinds button")].map(each => each.textContent)')
    assert kinds == ['named, not labelled3', 'labelled, not named1', 'much disagreement2',
                     'all background1']
    browser.run('document.querySelector("#kinds button[value=extra]").click()')
    assert rows(browser) == ['b'] and browser.run(SHOWN) == '1 of 5 images' and browser.run(NAME) == 'b'
    browser.run('document.querySelector("#kinds button[value=empty]").click()')
    assert rows(browser) == ['a', 'b']  # either
    for kind in ('extra', 'empty'):
        browser.run(f'document.querySelector("#kinds button[value={kind}]").click()')
    choose(browser, 'class', 'table')
    assert rows(browser) == ['c', 'd']  # labelled or named
    choose(browser, 'class', '')
    choose(browser, 'sort', 'name')
    browser.press('/')
    for key in 'zz':
        browser.press(key)
    assert rows(browser) == [] and browser.run(NAME) == 'No image fits these filters'
    assert browser.run('document.activeElement.id') == 'search'
    browser.press('Escape')
    assert browser.run('document.activeElement.id') != 'search' and not browser.errors
    assert browser.run('document.getElementById("search").value') == 'zz' and rows(browser) == []  # left, not emptied


def test_a_search_without_hits_keeps_the_place(browser, page, five):
    browser.open(page(five) + '#d')
    browser.press('/')
    browser.press('z')
    assert browser.run(SHOWN) == '0 of 5 images'
    browser.run('(box => { box.value = ""; box.dispatchEvent(new Event("input")); })(document.activeElement)')
    assert browser.run(NAME) == 'd'


def test_whoever_uses_keys_stays_where_they_are(browser, page, five):
    browser.open(page(five))
    browser.run('document.querySelector("#layers input[type=range]").focus()')
    browser.press('ArrowRight')
    browser.press('ArrowRight')
    assert browser.run(NAME) == 'a' and browser.run('document.activeElement.value') == '0.7'
    browser.press('j')  # other keys page as ever
    assert browser.run(NAME) == 'b'
    browser.run('document.querySelector("#marks .wrong").focus()')
    browser.run('document.activeElement.click()')
    assert browser.run(NAME) == 'c' and browser.run('document.activeElement.className') == 'wrong'


def test_marks_of_two_tabs_are_kept(browser, page, five):
    address = page(five)
    browser.open(address)
    browser.run('localStorage.clear()')
    browser.open(address + '#a')
    browser.press('o')
    key, theirs = browser.run('Object.entries(localStorage)[0]')
    browser.run('localStorage.clear()')
    browser.open('about:blank')
    browser.open(address + '#b')
    browser.run(f'localStorage.setItem({key!r}, {theirs!r})')  # by another tab, meanwhile
    browser.press('w')
    browser.open('about:blank')
    browser.open(address)
    assert browser.run('[...document.querySelectorAll(".badge")].map(each => each.textContent)') == ['ok', 'wrong']
    browser.run(f'localStorage.setItem({key!r}, "[]"); dispatchEvent(new StorageEvent("storage", {{key: {key!r}}}))')
    assert browser.run('document.querySelectorAll(".badge").length') == 0


def test_shares_are_told_as_they_are(browser, page, label_folder):
    speck, much, thirds = np.zeros((3, 64, 63), np.uint8)
    speck[0, 0], much[1:], thirds[:, 21:42], thirds[:, 42:], thirds[:, :21] = 1, 1, 2, 3, 1
    folder = label_folder(a=dict(labels=speck), b=dict(labels=much), c=dict(labels=thirds))
    browser.open(page(open_labels(folder)) + '#a')
    told = '[...document.querySelectorAll("#facts td")].map(each => each.textContent)'
    assert browser.run(told) == ['cup', '< 0.1 %', 'background', '> 99.9 %']
    browser.press('j')
    assert browser.run(told) == ['cup', '98 %', 'background', '1.6 %']
    browser.press('j')
    assert browser.run(told) == ['cup', '33 %', 'table', '33 %', CLASSES[3], '33 %', 'background', '0 %']


def test_marks_are_kept_for_these_labels_and_exported(browser, page, five, label_folder):
    address = page(five)
    browser.open(address)
    browser.run('localStorage.clear()')
    browser.open(address + '#a')
    for key in 'wol':  # goes on after each
        browser.press(key)
    assert browser.run(NAME) == 'd'
    told = 'document.getElementById("progress").textContent'
    assert browser.run(told) == '1 ok · 1 wrong · 1 later · 2 to go'
    browser.press('k')
    browser.press('l')  # the same again: no mark
    browser.open('about:blank')
    browser.open(address + '#a')
    assert browser.run(told) == '1 ok · 1 wrong · 3 to go'
    assert browser.run('[...document.querySelectorAll(".badge")].map(each => each.textContent)') == ['wrong', 'ok']
    browser.run('URL.createObjectURL = blob => { window.saved = blob.text(); return "#"; }; 0')
    browser.run('HTMLAnchorElement.prototype.click = () => {}')
    browser.run('document.getElementById("export").click()')
    lines = browser.run('window.saved').splitlines()
    assert lines[0] == 'name,mark,image,problems' and len(lines) == 3
    assert lines[1].startswith('a,wrong,') and lines[1].endswith('photos/a.jpg,missing;doubted;empty')
    choose(browser, 'mark', 'none')
    assert rows(browser) == ['c', 'd', 'e']
    changed = replace(five, images=tuple(replace(image, labels=five.images[4].labels) if image.name == 'a' else image
                                         for image in five))
    browser.open('about:blank')
    browser.open(page(changed))
    assert browser.run(told) == '1 ok · 4 to go'  # a's label is another now
    assert not browser.errors


def test_links_lead_to_an_image_whatever_its_name(browser, page, five):
    names = dict(a='Küche/#1 %41', b='__proto__', c='a&b="c"')
    address = page(replace(five, images=tuple(replace(image, name=names.get(image.name, image.name))
                                              for image in five)), inline=False)
    for link, name in (('#K%C3%BCche%2F%231%20%2541', names['a']), ('#__proto__', '__proto__'),
                       ('#a%26b%3D%22c%22', names['c']), ('#nowhere', names['a'])):
        browser.open('about:blank')
        browser.open(address + link)
        assert browser.run(NAME) == name
        browser.wait('document.getElementById("layer-photo").naturalWidth')
    browser.run('[...document.querySelectorAll(".row")].find(each => each.textContent.includes("__proto__")).click()')
    browser.wait(f'{NAME} === "__proto__"')
    browser.press('o')
    assert browser.run('document.querySelectorAll(".badge").length') == 1
    assert not browser.errors


def test_of_thousands_only_the_rows_in_sight_exist(browser, page, five):
    many = replace(five, images=tuple(replace(five.images[n % 5], name=f'n{n:04d}') for n in range(400)))
    browser.open(page(many, inline=False, side=32))
    assert browser.run(SHOWN) == '400 images' and len(rows(browser)) < 40
    browser.press('End')
    browser.wait('document.querySelector(".row[aria-current=true]")')
    assert browser.run('document.getElementById("place").textContent').startswith('400 of 400') and len(
        rows(browser)) < 40
    browser.run('document.getElementById("list").scrollTop = 0')
    browser.wait('document.querySelector(".row").style.top === "0px"')


def test_no_picture_at_all_and_a_narrow_screen(browser, page, label_folder):
    folder = open_labels(label_folder(a=dict(labels=blocks(1), photo=False), b=dict(labels=blocks(2))))
    (folder.root / 'labels' / 'b.png').write_bytes(b'broken')
    browser.resize(420, 800)
    try:
        browser.open(page(folder))
        assert browser.run(NAME) == 'b' and 'not a readable image' in browser.run(
            'document.querySelector("#facts li").textContent')
        browser.press('j')
        assert browser.run('document.getElementById("layer-labels").style.opacity') == '1'
        assert browser.run('document.documentElement.scrollWidth') <= 420 and not browser.errors
    finally:
        browser.resize(1280, 860)
