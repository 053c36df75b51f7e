"""ExCEL: the training-free maps of excel.npz by the package's own code path."""
import pytest
import torch

from weclip_sam.foundation import FrozenClip
from weclip_sam.foundation.attributes import attribute_weights, with_attributes
from weclip_sam.foundation.calibrated import calibrated_matrix, calibrated_patches
from weclip_sam.seeds.excel import class_weights, similarity_maps, stand_out

IMAGENET = dict(mean=(123.675 / 255, 116.28 / 255, 103.53 / 255), std=(58.395 / 255, 57.12 / 255, 57.375 / 255))
CALIBRATED = 5  # blocks, counted from the last: `layers=6` of the public code converts five


@pytest.fixture(scope='session')
def clip(excel, tmp_path_factory, write_checkpoint):
    return FrozenClip('auto', str(write_checkpoint(excel, tmp_path_factory.mktemp('excel') / 'clip.pt')), **IMAGENET)


class Group:
    """One batch: what the frozen encoder saw of it, and the tokens of both paths embedded."""

    def __init__(self, arrays, clip, name):
        self.clip, self.images = clip, clip.normalize(arrays[f'{name}/image_uint8'].permute(0, 3, 1, 2))
        self.features = clip.encode(self.images)
        self.inputs = [self.features.tokens[index - 1] for index in range(clip.layers - CALIBRATED, clip.layers)]
        self.blocks = clip.model.visual.transformer.resblocks[-CALIBRATED:]

    def embeddings(self, over_heads, bias=None):
        patches = calibrated_patches(self.blocks, self.inputs, over_heads, bias)
        joined = torch.cat([self.features.tokens[-1][:, :1], patches[:, 1:]], 1)
        visual = self.clip.model.visual
        return (visual.ln_post(joined) @ visual.proj).detach()


@pytest.fixture
def group(excel, clip, excel_group):
    return Group(excel, clip, excel_group)


def test_images_and_attentions(excel, group, excel_group, close):
    close(group.images, excel[f'{excel_group}/image'], 1e-5)
    heads = group.blocks[0].attn.num_heads
    summed = excel['attn_is_head_sum'].bool()
    ours = torch.stack([attention * (heads if each else 1) for attention, each
                        in zip(group.features.attentions, summed, strict=True)])
    close(ours, excel[f'{excel_group}/attn'], 1e-4)


def test_calibrated_path(excel, group, excel_group, close):
    for block, tokens, expected in zip(group.blocks, group.inputs, excel[f'{excel_group}/calib_attn'], strict=True):
        attention = block.attn
        projected = torch.nn.functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
        close(calibrated_matrix(projected, attention.num_heads, 'sum').detach(), expected, 1e-4)
    close(group.embeddings('sum'), excel[f'{excel_group}/tokens'], 2e-4)
    close(group.embeddings('mean'), excel[f'clean/{excel_group}/tokens_headmean'], 2e-4)


def test_maps(excel, excel_group, close):
    texts = excel['tse/text_attr']
    tokens = torch.nn.functional.normalize(excel[f'{excel_group}/tokens'], dim=1)
    similarity = tokens @ texts.T
    weights = class_weights(similarity[:, 0])
    close(weights, excel[f'{excel_group}/w'], 1e-4)
    close(similarity * weights[:, None], excel[f'{excel_group}/sim_before'], 1e-4)
    close(stand_out(similarity, weights), excel[f'{excel_group}/sim_after'], 1e-4)
    summed, mean = excel[f'{excel_group}/tokens'], excel[f'clean/{excel_group}/tokens_headmean']
    for embeddings, normalise, name in ((summed, 'tokens', f'{excel_group}/maps_all'),
                                        (mean, 'tokens', f'clean/{excel_group}/maps_all_headmean'),
                                        (summed, 'channels', f'clean/{excel_group}/maps_all_channorm')):
        close(similarity_maps(embeddings, texts, normalise=normalise, stretch='tokens'), excel[name], 2e-4)


def test_attributes_move_the_texts(excel, close):
    text, bank = excel['tse/text_in'], excel['tse/bank'].float().T
    enriched = excel['tse/text_attr']
    weights = excel['tse/attr_weights']
    classes = len(weights)
    drop = int(excel['tse/drop'])
    close(attribute_weights(text[:classes], bank, drop), weights, 1e-5)
    assert (attribute_weights(text[:classes], bank, drop) == 0).sum(1).tolist() == [drop] * classes
    close(with_attributes(text[:classes], bank, drop), enriched[:classes], 1e-5)
    close(text[classes:], enriched[classes:], 1e-5)  # background nouns stay


@pytest.mark.parametrize('form', ['lit', 'clean'])
def test_how_many_attributes_are_left_out(excel, form, close):
    """By default a tenth; the public code's ``int((1 - 0.9) * n)`` is one fewer for a multiple of ten."""
    bank, expected = excel['tse2/bank'].float().T, excel[f'{form}/tse2/text_attr']
    drop, classes = int(excel[f'{form}/tse2/drop']), len(excel['tse/attr_weights'])
    close(with_attributes(excel['tse/text_in'][:classes], bank, drop), expected[:classes], 1e-5)
    if form == 'clean':
        close(with_attributes(excel['tse/text_in'][:classes], bank), expected[:classes], 1e-5)


def test_bias_of_the_learnt_calibration(excel, group, excel_group, close):
    key = f'lit/{excel_group}/lvc'
    if f'{key}/bias' not in excel:
        pytest.skip(f'{excel_group}: no learnt calibration here')
    bias = torch.nn.functional.pad(excel[f'{key}/bias'], (1, 0, 1, 0))
    close(group.embeddings('sum', bias), excel[f'{key}/tokens'], 2e-4)
    close(similarity_maps(group.embeddings('sum', bias), excel['tse/text_attr'], normalise='tokens',
                          stretch='tokens'), excel[f'{key}/maps_all'], 2e-4)
