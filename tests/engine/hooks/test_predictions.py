"""Predictions of a test are mixed with nothing else."""
from types import SimpleNamespace

import pytest

from weclip_sam.engine.hooks.predictions import SavePredictionsHook


def runner(*image_ids):
    return SimpleNamespace(test_dataloader=SimpleNamespace(dataset=SimpleNamespace(image_ids=list(image_ids))))


def test_predictions_of_others_are_found_before_the_test(tmp_path):
    hook = SavePredictionsHook(str(tmp_path / 'out'))
    hook.before_test(runner('a', 'b/c'))
    (tmp_path / 'out' / 'b').mkdir()
    for name in ('a.png', 'b/c.png'):
        (tmp_path / 'out' / name).touch()
    hook.before_test(runner('a', 'b/c', 'd'))  # its own, of an earlier test
    with pytest.raises(ValueError, match=r'1 PNGs that are no predictions for these 1 images, for example .*/b/c'):
        hook.before_test(runner('a'))


def test_images_whose_files_would_meet_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"images 'a' and 'a\.png/b' would meet"):
        SavePredictionsHook(str(tmp_path)).before_test(runner('a', 'a.png/b'))
