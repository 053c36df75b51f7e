"""SEPL against the authors' merge scripts: exact, whatever order the masks come in.

Deliberate difference, not visible in these arrays: the authors' evaluation adds up its counts across classes without a
reset; ours is one confusion matrix (tests/evaluation).
"""
import numpy as np
import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.sepl import RULES
from weclip_sam.structures import MaskSet, SeedState

CLASSES = 20  # the authors' num_cls=21 counts the background


def case(arrays, name):
    height, width = arrays[f'{name}/hw']
    masks = np.unpackbits(arrays[f'{name}/masks'], axis=-1)[..., :width].astype(bool)
    assert masks.shape == (arrays[f'{name}/nmasks'], height, width)
    return torch.from_numpy(arrays[f'{name}/pseudo'].astype(np.int64)), torch.from_numpy(masks)


@pytest.mark.parametrize('order', ['sorted', 'reversed'])
@pytest.mark.parametrize('rule', RULES)
def test_merge_is_exact(golden_dir, rule, order):
    path = golden_dir / 'sepl.npz'
    if not path.is_file():
        pytest.skip(f'{golden_dir} has no sepl.npz')
    arrays = np.load(path, allow_pickle=False)
    names = sorted({key.split('/')[0] for key in arrays.files})
    assert names
    step = SEED_STEPS.build(dict(type='SeplMerge', rule=rule))
    for name in names:
        labels, masks = case(arrays, name)
        masks = masks if order == 'sorted' else masks.flip(0)
        none = torch.zeros(len(masks))
        state = SeedState(torch.zeros(1, 3, *labels.shape), torch.zeros(1, CLASSES, dtype=torch.bool), None, None, None,
                          masks=MaskSet(masks, none.long(), none, none, none.long()), pixel_labels=labels[None])
        merged = step(state).pixel_labels[0]
        assert np.array_equal(merged.numpy(), arrays[f'{name}/{rule}/{order}']), f'case {name}'
