"""Tiny CLIP models of real open_clip classes, and the same weights in every file format people have."""
import copy
import warnings

import pytest
import torch
from torch import nn

from weclip_sam.foundation.clip_card import build_clip

TINY_CARD = {
    'embed_dim': 24, 'quick_gelu': True,
    'vision_cfg': {'image_size': 32, 'layers': 3, 'width': 64, 'head_width': 64, 'patch_size': 8},
    'text_cfg': {'context_length': 16, 'vocab_size': 49408, 'width': 16, 'heads': 1, 'layers': 2},
}


@pytest.fixture(scope='session')
def clip_card():
    """A card as OpenAI's conventions have it (heads of 64), so that 'auto' can read it off the weights."""
    return copy.deepcopy(TINY_CARD)


@pytest.fixture(scope='session')
def clip_model(clip_card):
    torch.manual_seed(3)
    model = build_clip(clip_card).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()  # exactly representable in every format below
    return model


class _Holder(nn.Module):
    """Nests modules under the names of a state dict, to script an archive that carries exactly those weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope='session')
def torchscript_archive(clip_model, tmp_path_factory):
    """The weights as OpenAI publishes them: a half-precision TorchScript archive with three extra integers."""
    root = _Holder()
    extras = {key: torch.tensor(value) for key, value in
              {'input_resolution': 32, 'context_length': 16, 'vocab_size': 49408}.items()}
    for key, value in {**clip_model.state_dict(), **extras}.items():
        *path, leaf = key.split('.')
        module = root
        for name in path:
            if name not in dict(module.named_children()):
                module.add_module(name, _Holder())
            module = getattr(module, name)
        module.register_buffer(leaf, value.half() if value.is_floating_point() else value)
    file = tmp_path_factory.mktemp('archive') / 'ViT.pt'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # TorchScript is on its way out; the files people have are not
        torch.jit.save(torch.jit.script(root), str(file))
    return file


@pytest.fixture(scope='session')
def traced_archive(clip_model, tmp_path_factory):
    """The whole model traced in half precision, as OpenAI made its archives."""
    model = copy.deepcopy(clip_model).half()
    file = tmp_path_factory.mktemp('archive') / 'traced.pt'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inputs = torch.zeros(1, 3, 32, 32).half(), torch.zeros(1, 16, dtype=torch.long)
        torch.jit.save(torch.jit.trace(model, inputs, check_trace=False, strict=False), str(file))
    return file
