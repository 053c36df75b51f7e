"""What a training step gives to its device is counted, and does not grow."""
import json

import pytest
import torch
from benchmarks.iterations import training_step
from benchmarks.made_up import SETTINGS, Bench
from benchmarks.operators import Operators, count_operators, without_numbers

# ViT-B/16's blocks, heads and tokens, narrow: the number of operators does not depend on channels.
CARD = dict(embed_dim=32, quick_gelu=True,
            vision_cfg=dict(image_size=32, layers=12, width=64, head_width=32, patch_size=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=1, layers=1))


def test_views_and_memory_are_free_and_the_host_does_not_count():
    x = torch.ones(4, 4, device='meta')
    with Operators('meta') as counter:
        y = torch.empty_like(x)[1:].view(4, 3).T
        torch.ones(3).add_(1)
        y.add_(1)
        x.sum().mul_(2)
    assert dict(counter.by_name) == dict(add_=1, sum=1, mul_=1) and counter.total == 3
    assert counter.by_part == dict(elsewhere=3)


def test_kernels_of_its_own_count_instead():
    x = torch.ones(2, 5, 5, device='meta', dtype=torch.bool)
    from weclip_sam.seeds import boxes, components
    plain = count_operators(lambda: boxes.reachable(x), kernels={})
    assert plain.total > 5 and set(plain.by_part) == {'seeds/components.py'}
    kernels = count_operators(lambda: boxes.reachable(x), kernels={('weclip_sam.seeds.boxes', 'reachable'): 3})
    assert dict(kernels.by_name) == dict(reachable=3)
    assert boxes.reachable is components.reachable  # put back


def test_gradients_belong_to_whom_they_are_of():
    weight = torch.ones(3, device='meta', requires_grad=True)
    counter = count_operators(lambda: (weight * 2).sum().backward())
    assert set(counter.by_part) == {'elsewhere', 'the losses, backward'}


@pytest.mark.parametrize('system, most', [('WeCLIP', 564), ('WeCLIP-SAM, first version', 789), ('WeCLIP-SAM', 1084)])
def test_a_training_step_at_real_size_does_not_grow(system, most, tmp_path, monkeypatch):
    (tmp_path / 'card.json').write_text(json.dumps(CARD))
    # What takes long and is not counted: on a GPU PAR's weights and rounds are kernels of their own.
    monkeypatch.setattr('weclip_sam.seeds.par.neighbour_weights', lambda images, dilations: images)
    monkeypatch.setattr('weclip_sam.seeds.par._rounds', lambda weights, scores, *_: scores)
    clip = dict(type='FrozenClip', arch=str(tmp_path / 'card.json'), checkpoint='random')
    with without_numbers('meta'):
        _, step = training_step(Bench(SETTINGS['vit-b16'], torch.device('meta')), system, clip=clip)
        step()
    counted = count_operators(step)
    older = 9 if torch.__version__ < '2.15' else 0  # torch 2.11 copies a few tensors more
    assert counted.total <= most + older, counted.by_part
