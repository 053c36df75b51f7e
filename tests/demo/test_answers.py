"""What the page shows, without the page: Gradio need not be there."""
import numpy as np
from PIL import Image

from weclip_sam.demo.answers import Answerer, as_classes
from weclip_sam.demo.page import legend


def test_a_model_that_votes_with_masks_shows_maps_and_label_of_a_photo_that_no_bank_knows(labelling_run, tmp_path):
    path = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 10, 3), np.uint8)).save(path)
    answerer = Answerer(str(labelling_run / 'iter_400.pth'), device='cpu')
    assert answerer.has_sam and not answerer.without_labels
    name = answerer.classes[2]
    answer = answerer(str(path), [name])
    assert answer.cam.shape == (384, 480, 3) and answer.cam.std() > 0
    assert answer.seed.shape == (8, 10) and set(np.unique(answer.seed)) <= {0, 3, 255}
    told = legend(answer)
    prediction, label = told.split('<b>Label</b>')  # colours of both, each by its own shares
    assert '<b>Prediction</b>' in prediction
    assert (f'{name}&nbsp;' in label) == (answer.seed == 3).any() and not any(
        f'{other}&nbsp;' in label for other in answerer.classes if other != name)
    bare = legend(answerer(str(path)))
    assert 'Without names there is no label and no CAM.' in bare and '<b>' not in bare


def test_names_are_taken_as_people_type_them():
    classes = 'dog', 'cat', 'dining table', 'Bat', 'bat', 'a, b'
    assert as_classes([' Dog', 'DINING  table'], classes) == ('dog', 'dining table')
    assert as_classes(['cat, dog,', 'cat'], classes) == ('cat', 'dog')
    assert as_classes(['a, b'], classes) == ('a, b',)
    assert as_classes(['bat', 'kat'], classes) == ('bat', 'kat')  # what may be two, or none, is for the model to tell
    assert as_classes(['', ' '], classes) == ()
