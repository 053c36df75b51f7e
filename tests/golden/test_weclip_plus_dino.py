"""WeCLIP+'s DINO: the patch tokens of weclip_plus.npz from its small DINOv2, loaded as users load theirs.

The golden network is torch.hub's class; ``patch_tokens_timm`` are of the same weights in timm's.
"""
import json

import pytest
import torch

from weclip_sam.foundation.dino import FrozenDino, hub_positions


@pytest.fixture(scope='session')
def build(weclip_plus, tmp_path_factory):
    """A function: the small DINO, with registers or without, its sizes read off the arrays."""
    folder = tmp_path_factory.mktemp('dino')
    state = {key: value.float() for key, value in weclip_plus.under('dino/sd').items()}
    patch, side = state['patch_embed.proj.weight'].shape[-1], int(weclip_plus['dino/pos_grid'])
    card = dict(img_size=patch * side, patch_size=patch, embed_dim=state['cls_token'].shape[-1],
                depth=len({key.split('.')[1] for key in state if key.startswith('blocks.')}),
                num_heads=int(weclip_plus['dino/heads']), init_values=1.0)

    def make(registers=False, **options):
        sizes, weights = dict(card), dict(state)
        if registers:
            weights['register_tokens'] = weclip_plus['dino/register_tokens'].float()
            sizes.update(reg_tokens=weights['register_tokens'].shape[1], no_embed_class=True)
        torch.save(weights, folder / 'dino.pth')
        (folder / 'card.json').write_text(json.dumps(sizes))
        return FrozenDino(str(folder / 'card.json'), str(folder / 'dino.pth'), rounding='down', **options)
    return make


def rgb_of(image):
    return image.permute(0, 3, 1, 2).float()


@pytest.mark.parametrize('key, options', [
    ('patch_tokens', dict(positions='hub')), ('patch_tokens_timm', dict()),
    ('patch_tokens_timm_reg', dict(registers=True)), ('patch_tokens_hub_reg', dict(registers=True))])
def test_patch_tokens(weclip_plus, build, close, key, options):
    features = build(**options)(rgb_of(weclip_plus['in/image_uint8']))
    assert features.grid == tuple(weclip_plus['dino/grid'].tolist())
    close(features.tokens[-1][:, 1:], weclip_plus[f'dino/{key}'], 2e-4)


def test_positions(weclip_plus, close):
    grid, positions = weclip_plus['dino/grid'].tolist(), weclip_plus['dino/sd/pos_embed'].float()
    close(hub_positions(positions[:, 1:], grid)[0], weclip_plus['dino/pos_hub'], 1e-5)
