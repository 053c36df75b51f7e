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
