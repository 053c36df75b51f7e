import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from weclip_sam.io.images import read_image
from weclip_sam.result import SegmentationResult


def test_the_result_counts_saves_and_names(tmp_path):
    labels = np.array([[0, 2], [2, 2]], np.uint8)
    result = SegmentationResult(labels, ('background', 'cat', 'dog'), np.zeros((2, 2, 3), np.uint8),
                                palette=[(0, 0, 0), (9, 0, 0), (0, 9, 1)])
    assert result.areas() == {'dog': 0.75, 'background': 0.25} and list(result.areas()) == ['dog', 'background']
    assert result.mask('dog').sum() == 3 and not result.mask('cat').any()
    with pytest.raises(ValueError, match="Did you mean 'dog'"):
        result.mask('dgo')
    result.save(tmp_path / 'a' / 'x.png', tmp_path / 'a' / 'x.jpg')
    with Image.open(tmp_path / 'a' / 'x.png') as image:
        assert image.mode == 'P' and np.array_equal(np.asarray(image), labels)
        assert image.getpalette()[6:9] == [0, 9, 1]
    # The overlay has the label file's colours, and says what they are.
    assert read_image(tmp_path / 'a' / 'x.jpg').size == np.asarray(result.overlay()).shape[1::-1]
    plain = np.asarray(result.overlay(alpha=1, legend=False, names=False))
    assert plain.shape == (2, 2, 3) and plain[0, 0].tolist() == [0, 0, 0]
    legend = np.asarray(result.overlay(names=False))[320:]
    assert (legend == (0, 9, 1)).all(-1).sum() == 11 ** 2 and not (legend == (9, 0, 0)).all(-1).any()
    with pytest.raises(ValueError, match='keeps every value'):
        result.save(tmp_path / 'x.jpg')
    with pytest.raises(ValueError, match='.png, .jpg or .webp'):
        result.save(tmp_path / 'x.png', tmp_path / 'x.gif')


def test_ignored_pixels_are_of_no_class():
    labels, sure = np.array([[0, 1], [255, 255]], np.uint8), np.array([[255, 51], [0, 0]], np.uint8)
    result = SegmentationResult(labels, ('background', 'cat'), np.zeros((2, 2, 3), np.uint8), confidence=sure)
    assert result.areas() == {'background': 0.25, 'cat': 0.25}
    assert result.scores() == {'background': 1, 'cat': pytest.approx(0.2)}


def test_results_can_be_compared_and_collected(result):
    other = replace(result)
    assert result == result != other and result in [other, result] and len({result, other}) == 2


@pytest.fixture
def result():
    labels = np.zeros((30, 40), np.uint8)
    labels[:10], labels[20:, :20] = 2, 1
    return SegmentationResult(labels, ('background', 'cat', 'dog', 'bus'), np.full((30, 40, 3), 90, np.uint8),
                              name='photos/a.jpg')


def test_segments_are_those_of_hugging_face_s_pipeline(result):
    found = result.segments()
    assert [each['label'] for each in found] == ['background', 'cat', 'dog']
    for each in found:
        assert set(each) == {'score', 'label', 'mask'} and each['score'] is None
        assert each['mask'].mode == 'L' and each['mask'].size == (40, 30)
        assert np.array_equal(np.asarray(each['mask']), 255 * result.mask(each['label']).astype(np.uint8))
    assert [each['label'] for each in result.segments(background=False)] == ['cat', 'dog']


def test_scores_of_segments_are_mean_probabilities(result):
    probabilities = np.zeros((4, 30, 40), np.float16)
    probabilities[1, 20:25], probabilities[1, 25:] = 0.5, 1.0
    found = {each['label']: each['score'] for each in replace(result, probabilities=probabilities).segments()}
    assert found == dict(background=0.0, cat=0.75, dog=0.0)


def test_a_result_is_shown_in_a_line_and_in_notebooks_as_a_picture(result):
    assert repr(result) == "SegmentationResult('photos/a.jpg', 40 x 30: background 50.0%, dog 33.3%, cat 16.7%)"
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.format == 'PNG' and picture.size == result.overlay().size  # enlarged, with its legend
        assert np.array_equal(np.asarray(picture), np.asarray(result.overlay()))


def test_a_notebook_is_not_sent_a_large_picture():
    size = 300, 2000
    large = SegmentationResult(np.ones(size, np.uint8), ('background', 'cat'), np.zeros((*size, 3), np.uint8))
    with Image.open(io.BytesIO(large._repr_png_())) as picture:
        assert max(picture.size) == 512


def test_ten_classes_are_not_all_named():
    labels = np.arange(10, dtype=np.uint8)[None].repeat(3, 0)
    shown = repr(SegmentationResult(labels, tuple('abcdefghij'), np.zeros((3, 10, 3), np.uint8)))
    assert shown.count('%') == 5 and len(shown) < 120
