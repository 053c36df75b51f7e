"""A review as files: what is looked at, what is written, what cannot be read."""
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from blocks import CLASSES, blocks
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from weclip_sam.offline.results import open_labels
from weclip_sam.review import make
from weclip_sam.review.entries import look_at, look_at_all
from weclip_sam.review.make import make_review

NASTY = CLASSES[3]


def data_of(page):
    """The facts in a page."""
    text = page.read_text(encoding='utf-8')
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def three(label_folder):
    """Images whose order is b (contradicted and unsure), c (unsure), a."""
    sure = dict(a=230, b=51, c=102)
    doubts = blocks(0, 2)
    return label_folder(
        a=dict(labels=blocks(0, 1), names=['cup'], confidence=blocks(sure['a']), doubts={'sam': 0.05}),
        b=dict(labels=blocks(0, 1, 3, 255), names=['table'], confidence=blocks(sure['b']), doubt_map=doubts),
        c=dict(labels=blocks(2), names=['table'], confidence=blocks(sure['c']), scores={'table': 0.4},
               named={'table': 0.25, 'cup': 0.9}))


def test_what_is_looked_at(three):
    folder = open_labels(three)
    a, b, c = look_at_all(folder)
    assert [entry.name for entry in (a, b, c)] == ['a', 'b', 'c'] and a.size == (24, 32)
    assert b.facts.areas == {'cup': 0.25, NASTY: 0.25} and b.facts.ignored == 0.25
    assert b.facts.scores == pytest.approx({'cup': 0.2, NASTY: 0.2})  # of the map, where the record has none
    assert b.facts.doubts == dict(cam=0.0, sam=0.5, decoder=0.0)
    assert set(b.layers) == {'photo', 'labels', 'confidence', 'sam'}
    assert list(b.problems) == ['missing', 'extra', 'unsure', 'doubted', 'ignored']
    assert c.facts.scores == {'table': 0.4} and list(c.problems) == ['clip', 'unsure']
    assert not a.problems and a.digest != b.digest


def test_worst_first_on_the_page_and_in_the_table(three, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    review = make_review(open_labels(three), out, workers=1)
    assert [entry.name for entry in review.entries] == ['b', 'c', 'a'] and not review.unreadable and review.inline
    data = data_of(review.page)
    assert [image['name'] for image in data['images']] == ['b', 'c', 'a']
    assert data['classes'] == CLASSES and data['palette'][1] == '#c81e1e'
    first = data['images'][0]
    assert first['missing'] == ['table'] and first['extra'] == ['cup', NASTY] and first['link'] == '../photos/b.jpg'
    assert list(first['problems']) == ['missing', 'extra', 'unsure', 'doubted', 'ignored']  # in this order
    assert all(layer.startswith('data:image/') for layer in first['layers'].values())
    with open(review.table, encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == ['b', 'c', 'a']
    assert rows[0]['problems'] == 'missing;extra;unsure;doubted;ignored' and rows[0]['image'].endswith('photos/b.jpg')
    assert json.loads(rows[0]['areas']) == {'cup': 0.25, NASTY: 0.25} and rows[0]['worst_class'] == 'cup'
    assert (rows[0]['worst_score'], rows[0]['names'], rows[0]['ignored']) == ('0.2000', 'table', '0.2500')
    assert json.loads(rows[1]['clip']) == {'table': 0.25, 'cup': 0.9} and rows[1]['doubts'] == ''
    assert review.text().startswith('3 images, 1 without a problem that shows; named, not labelled: 1; ')
    assert 'low confidence: 2' in review.text()


@pytest.mark.parametrize('order, names', [('confidence', 'bca'), ('doubts', 'bac'), ('names', 'bca')])
def test_other_orders(three, tmp_path, order, names):
    review = make_review(open_labels(three), tmp_path, order, workers=1)
    assert ''.join(entry.name for entry in review.entries) == names and data_of(review.page)['order'] == order


def test_nothing_of_a_name_becomes_markup(label_folder, tmp_path):
    script = '</script><script>alert(1)</script><!--'
    folder = label_folder(classes=['background', script, "o'x", NASTY], a=dict(labels=blocks(1, 3), names=[script]))
    opened = open_labels(folder)
    nasty = replace(opened.images[0], name=script)
    review = make_review(replace(opened, images=(nasty,)), tmp_path, workers=1)
    text = review.page.read_text(encoding='utf-8')
    assert 'alert(1)</script>' not in text and text.count('<script') == 2 and '<!--' not in text
    assert NASTY not in text
    data = data_of(review.page)
    assert data['images'][0]['name'] == script and data['classes'][1] == script and list(
        data['images'][0]['areas']) == [script, NASTY]


def test_pictures_beside_the_page(three, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    review = make_review(open_labels(three), out, inline=False, workers=2)
    layers = [layer for image in data_of(review.page)['images'] for layer in image['layers'].values()]
    assert sorted(layers) == sorted(f'thumbs/{path.name}' for path in (out / 'thumbs').iterdir()) and len(layers) == 10
    assert all(re.fullmatch(r'thumbs/[0-9a-f]{16}_\w+\.(jpg|webp)', layer) for layer in layers)
    (out / 'thumbs' / 'mine.jpg').write_bytes(b'')
    fewer = make_review(open_labels(three), out, inline=False, limit=1, workers=1)
    assert [entry.name for entry in fewer.entries] == ['b'] and fewer.left_out == 2
    assert len(list((out / 'thumbs').iterdir())) == 4 + 1  # what others put there stays
    assert '2 least suspicious were left out' in fewer.text()


def test_many_go_beside_few_go_into_the_page(three, tmp_path, monkeypatch):
    monkeypatch.setattr(make, 'INLINE', 2)
    assert not make_review(open_labels(three), tmp_path, workers=1).inline
    assert make_review(open_labels(three), tmp_path, limit=2, workers=1).inline
    monkeypatch.setattr(make, 'MOST_INLINE', 2)
    with pytest.raises(ValueError, match='3 images make a page that no browser opens'):
        make_review(open_labels(three), tmp_path, inline=True, workers=1)


def test_of_many_only_those_that_may_be_shown_keep_their_pictures(label_folder, tmp_path):
    images = {f'i{n:02d}': dict(labels=blocks(1), scores={'cup': (n * 7 % 20) / 20}) for n in range(20)}
    review = make_review(open_labels(label_folder(**images)), tmp_path, limit=3, workers=1)
    lowest = sorted(images, key=lambda name: images[name]['scores']['cup'])[:3]
    assert [entry.name for entry in review.entries] == lowest


def test_what_cannot_be_read_stands_first_with_its_reason(three, tmp_path):
    folder = open_labels(three)
    (three / 'labels' / 'a.png').write_bytes(b'no image')
    folder.images[2].image.write_bytes(b'no image')
    review = make_review(folder, tmp_path, workers=1)
    assert [entry.name for entry in review.entries] == ['a', 'c', 'b'] and len(review.unreadable) == 2
    a, c = review.entries[:2]
    assert 'a.png: not a readable image' in a.problems['unreadable'] and set(a.layers) == {'photo'}
    assert 'c.jpg: not a readable image' in c.facts.fault and 'labels' in c.layers and c.facts.areas == {'table': 1.0}


def test_labels_alone_are_shown(label_folder):
    entry = look_at(folder := open_labels(label_folder(a=dict(labels=blocks(1), photo=False))), folder.images[0])
    assert entry.photo is None and set(entry.layers) == {'labels'} and not entry.problems


def test_photos_that_are_not_there_hide_no_problem(three, tmp_path):
    folder = open_labels(three)
    for image in folder:
        image.image.unlink()
    review = make_review(folder, tmp_path, workers=1)
    assert [entry.name for entry in review.entries] == ['b', 'c', 'a'] and not review.unreadable
    assert len(review.lost) == 3 and f'3 photos cannot be found, for example {folder.images[1].image}' in review.text()


def test_images_with_one_stem_in_several_folders(label_folder, tmp_path):
    folder = label_folder(**{f'{part}/img': dict(labels=blocks(n), photo=False) for n, part in enumerate('abc')})
    review = make_review(open_labels(folder), tmp_path, inline=False, workers=1)
    assert sorted(entry.name for entry in review.entries) == ['a/img', 'b/img', 'c/img']
    assert len({entry.layers['labels'] for entry in review.entries}) == 3


@pytest.mark.parametrize('shape, fits', [((24, 32), True), ((48, 64), True), ((49, 64), True), ((24, 40), False),
                                         ((12, 16), False)])
def test_labels_of_a_photo_that_was_shrunk_fit_it(label_folder, write_image, shape, fits):
    folder = open_labels(label_folder(a=dict(labels=blocks(1))))
    write_image(folder.images[0].image, shape)
    assert bool(look_at(folder, folder.images[0]).facts.fault) is not fits


def test_a_map_of_another_size_is_told(three):
    folder = open_labels(three)
    wrong = replace(folder.images[0], doubt_map=folder.images[1].image.with_name('small.png'))
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(wrong.doubt_map)
    assert 'small.png: 3 x 2 pixels, but its labels have 32 x 24' in look_at(folder, wrong).facts.fault


def test_two_images_of_one_name(three, tmp_path):
    folder = open_labels(three)
    with pytest.raises(ValueError, match="2 images are called 'a'"):
        make_review(replace(folder, images=folder.images + folder.images[:1]), tmp_path)


@pytest.mark.parametrize('option', [dict(limit=0), dict(side=5)])
def test_options_that_show_nothing(three, tmp_path, option):
    with pytest.raises(ValueError, match='expected at least'):
        make_review(open_labels(three), tmp_path, **option)


@pytest.mark.parametrize('disputed, agreed, why', [
    (3, 0, 'of fewer than 10 nobody can tell'), (10, 0, 'this CLIP does not know these names'), (3, 9, None)])
def test_the_word_of_clip_counts_where_it_seems_to_know_the_names(label_folder, tmp_path, disputed, agreed, why):
    folder = label_folder(**{f'p{place}': dict(labels=blocks(1), names=['cup'], photo=False,
                                               named={'cup': 0.4 if place < disputed else 0.9})
                             for place in range(disputed + agreed)})
    review = make_review(open_labels(folder), tmp_path, workers=1)
    line = f'CLIP disagrees with the names of {disputed} of {disputed + agreed} photos: {why}'
    page, data = review.page.read_text(encoding='utf-8'), data_of(review.page)
    assert (line in review.text()) is (line in page) is (why is not None)
    assert ('CLIP disagrees: 3' in review.text()) is (why is None)
    disputes = [image for image in data['images'] if image['clip'] == {'cup': 0.4}]
    assert len(disputes) == disputed and all(list(image['problems']) == ['clip'] * (not why) for image in disputes)
    assert data['low']['CLIP'] == (0 if why else 0.8)
    with review.table.open(newline='') as file:
        assert {row['problems'] for row in csv.DictReader(file)} == ({''} if why else {'clip', ''})


def test_a_corrected_label_is_said_to_be_one_and_has_no_scores_of_the_earlier(three, tmp_path):
    label = three / 'labels' / 'c.png'
    picture = Image.open(label)
    picture.putdata(blocks(2, 1).reshape(-1).tolist())  # the note of what it showed stays
    note = PngInfo()
    for key, value in picture.text.items():
        note.add_text(key, value)
    picture.save(label, pnginfo=note)
    (tmp_path / 'out').mkdir()
    review = make_review(open_labels(three), tmp_path / 'out', workers=1)
    assert '1 label was corrected since made: taken as corrected, without the confidence' in review.text()
    rows = {row['name']: row for row in csv.DictReader((tmp_path / 'out' / 'review.csv').open())}
    assert {name: row['corrected'] for name, row in rows.items()} == dict(a='', b='', c='yes')
    assert rows['c']['scores'] == rows['c']['doubts'] == '' and json.loads(rows['c']['clip'])['table'] == 0.25
    assert json.loads(rows['c']['areas']) == dict(table=0.5, cup=0.5) and 'unsure' not in rows['c']['problems']
    assert {image['name']: image['corrected'] for image in data_of(review.page)['images']} == dict(a=False, b=False,
                                                                                                  c=True)


def test_images_that_failed_stand_first(three, tmp_path):
    """They have no label, but perhaps a photo that can be shown."""
    header = json.loads((three / 'predictions.json').read_text())
    photos = tmp_path / 'photos'
    (photos / 'x.jpg').write_bytes(b'broken')
    header['failed'] = {str(photos / 'x.jpg'): 'not a readable image', 'no file': 'too large'}
    (three / 'predictions.json').write_text(json.dumps(header))
    review = make_review(open_labels(three), tmp_path, workers=1)
    assert [entry.name for entry in review.entries] == ['no file', 'x.jpg', 'b', 'c', 'a']
    assert len(review.unreadable) == 2 and all(entry.failed for entry in review.unreadable)
    assert '5 images, 1 without a problem that shows; cannot be read: 2' in review.text()
    assert '\nNOTE 2 images have no label, as making it failed: ' in review.text()
    first, second = data_of(review.page)['images'][:2]
    assert second['problems'] == {'unreadable': 'has no label: not a readable image'} and not second['lost']
    assert '3 images · 2 more without a label' in review.page.read_text(encoding='utf-8')
    with open(review.table, encoding='utf-8') as file:
        assert [row['fault'] for row in csv.DictReader(file)][:2] == ['has no label: too large', second['problems'][
            'unreadable']]
