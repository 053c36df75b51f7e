"""What a folder of pseudo labels belongs to."""
import pytest

from weclip_sam.offline.seed_folder import claim_folder
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
