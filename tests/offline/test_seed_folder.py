"""What a folder of pseudo labels belongs to."""
import json

import numpy as np
import pytest

from weclip_sam.engine.hooks.predictions import label_path
from weclip_sam.io.images import write_labels
from weclip_sam.offline.seed_folder import claim_folder, score_path
from weclip_sam.registry import READERS


def test_images_made_in_memory_have_no_place(tmp_path, monkeypatch):
    scenes = READERS.build(dict(type='ShapesReader', num_images=2))
    place = scenes.image_folder
    monkeypatch.setattr('weclip_sam.datasets.shapes.reader.DATA_SET_SCENES', dict(scale=(0.5, 1.0)))
    assert place.startswith('procedural scenes ') and scenes.image_folder != place
    claim_folder(tmp_path, dict(fingerprint='f'))  # as before places were kept
    assert claim_folder(tmp_path, dict(fingerprint='f', image_folder=None)) == {}
    with pytest.raises(ValueError, match='no known place'):
        claim_folder(tmp_path, dict(fingerprint='f', image_folder='/a'))


def test_labels_of_before_names_had_one_form_are_kept(tmp_path):
    """Their ids, classes and files may be decomposed."""
    card, old, new = dict(fingerprint='f', image_folder='/a'), 'e\u0301', '\u00e9'
    write_labels(tmp_path / f'{old}.png', np.array([[1]]))
    (tmp_path / 'scores').mkdir()
    (tmp_path / 'scores' / f'{old}.npz').touch()
    (tmp_path / 'seeds.json').write_text(json.dumps(dict(format='weclip_sam seeds 1', **card,
                                                         image_labels={old: f'p{old};cat'})))
    assert claim_folder(tmp_path, card, {new: f'p{new};cat'}) == {}
    assert label_path(tmp_path, new).is_file() and score_path(tmp_path, new).is_file()
    assert claim_folder(tmp_path, card, {new: 'cat'}) == {'classes': [new]}  # changed: they go
    assert not label_path(tmp_path, new).exists() and not (tmp_path / 'scores' / f'{old}.npz').exists()
