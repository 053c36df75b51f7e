"""What the encoders of a model are asked for, and that nothing comes out otherwise for it."""
import pytest
import torch
from torch import nn

from weclip_sam.features import ClipFeatures, Wanted
from weclip_sam.models.encoders import Encoders
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample

RGB = torch.randint(0, 256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(0)).float()
STEPS = [dict(type='GradCam'), dict(type='RfmAffinity', layers=2, warmup_layers=3), dict(type='PixelLabels')]
VOCABULARY = dict(classes=['cat', 'dog'], prompt_names=['cat', 'dog'], background_nouns=['sky'])


class Asked(nn.Module):
    """Remembers what it is asked for."""
    layers = 3

    def forward(self, rgb, wanted=None):
        self.wanted = wanted
        return ClipFeatures(torch.zeros(3, len(rgb), 2, 4), None, (1, 1))


class Plain(Asked):
    def forward(self, rgb):
        return super().forward(rgb)


@pytest.fixture()
def model():
    torch.manual_seed(0)
    made = MODELS.build(dict(
        type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'), seeds=STEPS, rfm_start=5,
        vocabulary=VOCABULARY, decoder=dict(type='WeClipDecoder', dim=16, depth=1, heads=2, token_layers=[0, 2])))
    return made.eval()


def test_encoders_that_listen_are_told_and_the_others_are_not():
    encoders = Encoders({})
    encoders.networks.update({'asked': Asked(), 'plain': Plain()})
    encoders._told = {'asked'}
    wanted = Wanted(tokens=frozenset({1}))
    assert set(encoders(RGB, {'asked': wanted, 'plain': wanted, 'maps': None})) == {'asked', 'plain'}
    assert encoders['asked'].wanted == wanted and encoders['plain'].wanted is None
    for everything in (None, {'asked', 'maps'}):
        assert 'asked' in encoders(RGB, everything) and encoders['asked'].wanted is None


def samples():
    made = []
    for classes in ([True, False], [True, True]):
        sample = SegSample()
        sample.image_labels, sample.padding_mask = torch.tensor(classes), torch.zeros(32, 48, dtype=torch.bool)
        made.append(sample)
    return made


def test_the_model_asks_for_what_decoder_and_steps_read(model):
    layers = model.clip.layers
    decoder, cam = Wanted(frozenset({0, 2})), Wanted.last_block_input(layers) | Wanted(heads=frozenset({layers - 1}))
    assert model.decoder_wants == {'clip': decoder}
    assert model.seeds_want[False] == {'clip': cam | Wanted.mean_attention(layers, 3)}
    assert model.seeds_want[True] == {'clip': cam | Wanted(attentions=frozenset({layers - 2, layers - 1}))}


@pytest.mark.parametrize('iteration', [0, 5])
def test_losses_and_logits_are_those_with_everything_kept(model, iteration, monkeypatch):
    model.set_progress(iteration)
    with torch.no_grad():
        few, logits = model.loss(RGB, samples()), model.tensor(RGB)
        monkeypatch.setattr(model.encoders, '_told', set())
        everything, more = model.loss(RGB, samples()), model.tensor(RGB)
    torch.testing.assert_close(logits, more)
    assert few.keys() == everything.keys()
    for name, value in few.items():
        torch.testing.assert_close(value, everything[name])
