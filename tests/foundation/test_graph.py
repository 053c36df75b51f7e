"""The ways that a graph for any size takes, against the fast ways: the same numbers."""
import pytest
import torch
import torch.nn.functional as F

from weclip_sam.features import Wanted
from weclip_sam.foundation import dino, graph, positions, sam_encoder, sam_eye
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_eye import SamEye


@pytest.fixture
def seen(monkeypatch):
    """As if torch.export were looking."""
    for module in (graph, dino, positions, sam_encoder, sam_eye):
        monkeypatch.setattr(module, 'making_graph', lambda: True)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('old, new', [(7, 20), (20, 7), (5, 5), (9, 4), (112, 37), (1, 6)])
def test_a_matrix_resizes_as_interpolate_does(old, new, antialias):
    values = torch.rand(1, 1, old, 2)  # torch 2.15 antialiases no column of a single pixel
    wanted = F.interpolate(values, (new, 2), mode='bilinear', antialias=antialias)
    torch.testing.assert_close(graph.resizing_matrix((new, new), (old, old), antialias) @ values, wanted)


def test_rows_that_are_not_there_are_zero_and_columns_not_read():
    values = torch.tensor([1.0, 3.0, float('inf')])
    matrix = graph.resizing_matrix((5, torch.tensor(4)), (3, torch.tensor(2)))
    assert matrix.shape == (5, 3) and not matrix[4].any() and not matrix[:, 2].any()
    wanted = F.interpolate(values[None, None, :2, None], (4, 1), mode='bilinear')[0, 0, :, 0]
    torch.testing.assert_close(matrix[:4, :2] @ values[:2], wanted)


@pytest.mark.parametrize('grid', [(3, 5), (9, 4), (6, 6)])
def test_positions_of_torch_hub(seen, monkeypatch, grid):
    embedding = torch.rand(1, 36, 8)
    made = dino.hub_positions(embedding, grid)
    monkeypatch.undo()
    torch.testing.assert_close(made, dino.hub_positions(embedding, grid), atol=1e-5, rtol=0)


def test_positions_are_made_and_not_kept(seen):
    cache, embedding = positions.PositionCache(), torch.rand(17, 8)
    torch.testing.assert_close(cache(embedding, (4, 4), (4, 4)), embedding)
    torch.testing.assert_close(cache(embedding, (4, 4), (3, 5)), positions.resized_positions(embedding, (4, 4), (3, 5)))
    assert not cache._made


@pytest.mark.parametrize('size', [(48, 64), (160, 104), (112, 112), (8, 200), (240, 320)])
def test_sam_sees_the_same_in_a_square_of_fixed_size(seen, monkeypatch, size):
    eye = SamEye(FrozenSam('tiny', 'tiny'))
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    wanted = Wanted(tokens=frozenset({0, 1}))
    made = eye(images, wanted)
    monkeypatch.undo()
    fast = eye(images, wanted)
    side, (rows, columns) = eye.sam.image_size // eye.patch_size, fast.grid
    assert made.grid == (side, side) and tuple(made.used.tolist()) == fast.grid and fast.used is None
    for block in (0, 1):
        square = made.tokens[block][:, 1:].unflatten(1, (side, side))[:, :rows, :columns]
        torch.testing.assert_close(square.flatten(1, 2), fast.tokens[block][:, 1:], atol=2e-4, rtol=1e-4)


def test_the_size_in_whole_numbers_is_sams():
    sam = FrozenSam('tiny', 'tiny')
    for height in range(8, 520, 8):
        for width in range(8, 520, 8):
            longest = max(height, width)
            whole = tuple(max(1, (2 * side * sam.image_size + longest) // (2 * longest)) for side in (height, width))
            assert whole == sam.input_shape(height, width)
