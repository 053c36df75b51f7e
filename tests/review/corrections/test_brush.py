"""Label Studio's run lengths, against an encoder of the tests' own."""
import numpy as np
import pytest
from brush_code import brush, encode

from weclip_sam.review.corrections.brush import decode_brush


@pytest.mark.parametrize('colour', [None, (12, 200, 0)])
@pytest.mark.parametrize('shape', [(1, 1), (7, 5), (40, 61), (300, 260)])
def test_round_trip(shape, colour):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2, (-(-shape[0] // 5), -(-shape[1] // 5)))
    mask = np.kron(coarse, np.ones((5, 5)))[:shape[0], :shape[1]] > 0
    assert np.array_equal(decode_brush(brush(mask, colour), *shape), mask)


@pytest.mark.parametrize('mask', [np.zeros((200, 200), bool), np.ones((200, 200), bool)])
def test_runs_longer_than_a_number_holds(mask):
    assert np.array_equal(decode_brush(brush(mask), 200, 200), mask)


@pytest.mark.parametrize('choose', ['short', 'long'])
def test_values_as_they_are(choose):
    mask = np.arange(35).reshape(5, 7) % 3 == 0
    code = encode(np.repeat(mask.ravel() * 255, 4), literal=True, choose=choose)
    assert np.array_equal(decode_brush(code, 5, 7), mask)


def test_half_transparent_paint_counts():
    assert decode_brush(encode([9, 9, 9, 3, 9, 9, 9, 0]), 1, 2).tolist() == [[True, False]]


@pytest.mark.parametrize('code, message', [
    ([], 'list of bytes'), ('abc', 'list of bytes'), ([300] * 9, 'list of bytes'), ([0.5] * 9, 'list of bytes'),
    (brush(np.ones((3, 4), bool)), 'of 12 pixels instead of 3 x 3'),
    (encode(range(36), literal=True)[:-6], 'end too early'), (brush(np.ones((3, 3), bool))[:7], 'end too early')])
def test_what_is_no_such_code(code, message):
    with pytest.raises(ValueError, match=message):
        decode_brush(code, 3, 3)


def test_a_run_beyond_the_last_pixel():
    code = encode([1] * 4)
    longer = encode([1] * 8)
    with pytest.raises(ValueError, match='beyond its last pixel'):
        decode_brush(code[:4] + longer[4:], 1, 1)
