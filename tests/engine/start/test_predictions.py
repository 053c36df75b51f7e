"""Predictions of two models are never mixed in one folder."""
import json

import pytest

from weclip_sam.engine.start.predictions import HEADER, claim_predictions, prediction_card
from weclip_sam.io.files import write_json


@pytest.fixture
def card(tmp_path):
    """A function: the card of a checkpoint with this content."""
    def make(content=b'weights', tta=False, **options):
        path = tmp_path / 'iter_4.pth'
        path.write_bytes(content)
        return prediction_card(path, None, [f'{k}={v}' for k, v in options.items()], tta, False)
    return make


@pytest.fixture
def predicted(tmp_path, card):
    """A folder with the predictions of one image."""
    out = tmp_path / 'out'
    (out / 'labels').mkdir(parents=True)
    assert claim_predictions(out, card()) == []
    (out / 'labels' / 'a.png').touch()
    (out / 'notes.txt').touch()
    write_json(out / HEADER, dict(card(), images=[dict(labels='labels/a.png'), dict(labels='labels/gone.png')]))
    return out


def test_more_images_of_the_same_model_are_added(predicted, card):
    assert claim_predictions(predicted, card()) == [dict(labels='labels/a.png')]


@pytest.mark.parametrize('other, said', [
    (dict(content=b'other'), r'by \S+ before that file was changed'),
    (dict(tta=True), 'no --tta before, now --tta'),
    (dict(a=1), 'no --cfg-options before, now --cfg-options a=1')])
def test_another_model_or_protocol_is_refused_and_nothing_changed(predicted, card, other, said):
    before = (predicted / HEADER).read_text()
    with pytest.raises(ValueError, match=rf'made in another way: {said}[.] .*Nothing was changed.*--out.*--overwrite'):
        claim_predictions(predicted, card(**other))
    assert (predicted / HEADER).read_text() == before and (predicted / 'labels' / 'a.png').exists()
    assert claim_predictions(predicted, card(**other), overwrite=True) == []
    assert sorted(path.name for path in predicted.rglob('*.*')) == ['notes.txt', HEADER]
    assert json.loads((predicted / HEADER).read_text())['weights'] == card(**other)['weights']


def test_a_record_of_before_digests_were_kept_is_known_by_the_checkpoint_s_path(predicted, card):
    old = dict(checkpoint=card()['checkpoint'], multi_scale=False, crf=False, images=[])
    write_json(predicted / HEADER, old)
    assert claim_predictions(predicted, card(b'other')) == []
    write_json(predicted / HEADER, dict(old, crf=True))
    with pytest.raises(ValueError, match='--crf before, now no --crf'):
        claim_predictions(predicted, card())
    write_json(predicted / HEADER, dict(old, sam='tiny'))
    with pytest.raises(ValueError, match='--sam tiny before, now --sam without a name'):
        claim_predictions(predicted, dict(card(), sam=True))


@pytest.mark.parametrize('overwrite', [False, True])
def test_label_pngs_of_unknown_origin_are_left_alone(tmp_path, card, overwrite):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'truth.png').touch()
    with pytest.raises(ValueError, match=r'truth.png: label PNGs are there, but no predictions.json'):
        claim_predictions(tmp_path, card(), overwrite)
    assert (tmp_path / 'labels' / 'truth.png').exists() and not (tmp_path / HEADER).exists()


@pytest.mark.parametrize('text', ['', '[]', '{"images": 3}', '{"images": [1]}'])
def test_a_damaged_record_is_refused(tmp_path, card, text):
    (tmp_path / HEADER).write_text(text)
    with pytest.raises(ValueError, match='not the record of predictions'):
        claim_predictions(tmp_path, card())
