from types import SimpleNamespace

import pytest
import torch

from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds import BlendMaps
from weclip_sam.structures import ClassMaps, SeedState


def state(**history):
    first = torch.zeros(1).long()
    maps = {name: ClassMaps(torch.as_tensor(scores)[None], first, first) for name, scores in history.items()}
    return SeedState(images=torch.zeros(1, 3, 4, 4), image_labels=torch.ones(1, 1, dtype=torch.bool),
                     features=SimpleNamespace(), text_features=torch.zeros(1, 2), clip=None,
                     maps=list(maps.values())[-1], history=maps)


def test_weighted_mean_of_two_steps():
    before = state(gradcam=[[1., 0.]], affinity=[[0.5, 1.]])
    after = SEED_STEPS.build(dict(type='BlendMaps', weight=0.25))(before)
    assert torch.equal(after.maps.scores, torch.tensor([[[0.875, 0.25]]]))
    assert list(after.history) == ['gradcam', 'affinity', 'blend'] and list(before.history) == ['gradcam', 'affinity']


def test_errors_name_the_step():
    with pytest.raises(ValueError, match="Did you mean 'gradcam'"):
        BlendMaps('gradcm')(state(gradcam=[[1.]]))
    with pytest.raises(ValueError, match='before steps that upsample'):
        BlendMaps()(state(gradcam=[[1.]], par=[[1., 1.]]))
    with pytest.raises(ValueError, match='weight'):
        BlendMaps(weight=1.5)
