"""What was learnt goes to the classes by name: more photos, or another class, later."""
import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.testing import assert_close as close

from weclip_sam.engine.start.warm_start import match_classes, use_start
from weclip_sam.features import ClipFeatures
from weclip_sam.models.branches import BranchDecoder
from weclip_sam.models.by_class import by_class, rows_by_class
from weclip_sam.models.decoder import WeClipDecoder
from weclip_sam.models.fine_decoder import FineDecoder
from weclip_sam.models.heads import DeepLabV2Head, DeepLabV3Head

OLD = ('bus', 'cat', 'dog')
NOW = ('apple', 'dog', 'bus', 'cup')  # permuted, one left out, two new
SMALL = dict(dim=8, depth=1, heads=2)


def features(layers=3, width=6):
    generator = torch.Generator().manual_seed(1)
    return ClipFeatures(tokens=torch.randn(layers, 2, 1 + 4, width, generator=generator), attentions=None, grid=(2, 2))


def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 255


MODELS = dict(
    weclip=(lambda n: WeClipDecoder(6, 3, n, **SMALL), lambda: dict(clip=features())),
    fine=(lambda n: FineDecoder(6, 3, n, **SMALL, beside=dict(sam=[-1]), encoder_sizes=dict(sam=(6, 3)), stride=2,
                                image_width=4, fine_width=4, fine_depth=1),
          lambda: dict(clip=features(), sam=features(), image=images())),
    branches=(lambda n: BranchDecoder(dict(clip=(6, 3), dino=(6, 3)), n, dict(clip=1, dino=[-1]), **SMALL),
              lambda: dict(clip=features(), dino=features())),
    deeplab_v2=(lambda n: DeepLabV2Head(5, n, (1, 2)), lambda: torch.ones(2, 5, 4, 4)),
    deeplab_v3=(lambda n: DeepLabV3Head(5, n, 6, (1, 2)), lambda: torch.ones(2, 5, 4, 4)))


def made(build, classes, seed):
    """A model with random numbers everywhere, and what a checkpoint of it would hold."""
    torch.manual_seed(seed)
    model = build(len(classes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return model, dict(state_dict=state, meta=dict(dataset_meta=dict(classes=classes)))


@torch.no_grad()
def logits(model, inputs):
    said = model(inputs)
    return said if isinstance(said, torch.Tensor) else said.seg_logits


@pytest.mark.parametrize('kind', sorted(MODELS))
@pytest.mark.parametrize('now', [NOW, OLD[::-1], (*OLD, 'zebra'), ('cat',)], ids=str)
def test_known_classes_have_the_logits_that_they_had(kind, now):
    build, inputs = MODELS[kind]
    before, content = made(build, OLD, 0)
    model, fresh = made(build, now, 1)
    untouched = logits(model, inputs())
    matched = match_classes(model, content, now, 'x.pth')
    assert set(matched.kept) == set(OLD) & set(now) and set(matched.new) == set(now) - set(OLD)
    assert set(matched.left_out) == set(OLD) - set(now)
    assert torch.equal(logits(model, inputs()), untouched), 'matching alone changes no model'
    model.load_state_dict(matched.state)
    was, is_now = logits(before, inputs()), logits(model, inputs())
    close(is_now[:, 0], was[:, 0])  # sums of another number of channels may be rounded otherwise
    for name in matched.kept:
        close(is_now[:, now.index(name) + 1], was[:, OLD.index(name) + 1])
    for name in matched.new:  # as they were built
        for key in rows_by_class(model):
            assert torch.equal(model.state_dict()[key][now.index(name) + 1],
                               fresh['state_dict'][key][now.index(name) + 1])


def test_all_rows_by_class_are_known_and_no_others():
    """Those whose first dimension follows the number of classes."""
    for build, _ in MODELS.values():
        shapes = [{name: value.shape for name, value in build(n).state_dict().items()} for n in (3, 5)]
        assert set(rows_by_class(build(3))) == {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}


def test_what_became_of_the_classes_is_one_line():
    model, content = made(MODELS['weclip'][0], OLD, 0)
    assert match_classes(model, content, OLD, 'x.pth').text() == '3 classes matched by name'
    many = ('cat', *(f'c{number:02}' for number in range(30)))
    line = match_classes(MODELS['weclip'][0](31), content, many, 'x.pth').text()
    assert line.startswith('1 classes matched by name, 30 new (c00, c01, ') and line.endswith(
        'c19, ...), 2 left out (bus, dog)')


def test_names_are_compared_as_everywhere_and_wrappers_are_looked_through():
    model, content = made(MODELS['deeplab_v2'][0], ('cafe\u0301', 'x'), 0)
    content['state_dict'] = {f'module.{name}': value for name, value in content['state_dict'].items()}
    assert match_classes(model, content, ('caf\u00e9', 'y'), 'x.pth').kept == ('caf\u00e9',)


class Own(nn.Module):
    """A model of somebody's own, which says nothing of its rows."""

    def __init__(self, classes):
        super().__init__()
        self.last = nn.Conv2d(2, classes + 1, 1)


def test_a_model_that_says_nothing_is_matched_by_shape_or_refused():
    model, content = made(Own, ('a', 'b'), 0)
    larger = Own(3)
    matched = match_classes(larger, content, ('b', 'c', 'a'), 'x.pth')
    assert torch.equal(matched.state['last.weight'][[1, 3]], model.last.weight[[2, 1]])
    with pytest.raises(ValueError, match=r'x.pth: was trained on other classes.* no layer of Own says'):
        match_classes(Own(2), content, ('b', 'a'), 'x.pth')
    match_classes(Own(2), content, ('a', 'b'), 'x.pth')


def test_other_models_are_refused_with_what_differs():
    _, content = made(MODELS['weclip'][0], OLD, 0)
    wider = WeClipDecoder(6, 3, 3, dim=16, depth=1, heads=2)
    told = r'x.pth: cannot be started from, it is of another model: projections.0.0.weight is \(8, 6\) instead of ' \
           r'\(16, 6\); .* and \d+ more\. Take the config'
    with pytest.raises(ValueError, match=told):
        match_classes(wider, content, OLD, 'x.pth')
    # Where both say how they were built, the setting is named.
    content['meta']['settings'] = dict(model=dict(type='WeClip', decoder=dict(dim=8), seeds=[dict(type='A')]))
    now = dict(type='WeClip', decoder=dict(dim=16, stride=4), seeds=[], clip=dict(checkpoint='tiny'))
    with pytest.raises(ValueError, match=r'another model: model.decoder.dim: 8 -> 16; model.decoder.stride: not set -> '
                                         r'4\. Take'):
        match_classes(wider, content, OLD, 'x.pth', Config(dict(model=now)).model)
    _, finer = made(MODELS['fine'][0], OLD, 0)
    with pytest.raises(ValueError, match=r'another model: beside\.sam\..* of it is not wanted; .* and \d+ more\. Take'):
        match_classes(WeClipDecoder(6, 3, 3, **SMALL), finer, OLD, 'x.pth')


def test_strangers_and_the_nameless_are_refused():
    model, content = made(MODELS['weclip'][0], OLD, 0)
    with pytest.raises(ValueError, match='none of its classes is among those of the data. Its classes: bus, cat, dog; '
                                         'now: x, y, z'):
        match_classes(model, content, ('x', 'y', 'z'), 'x.pth')
    for wrong, classes, told in ((dict(content, meta={}), OLD, 'it does not say which'),
                                 (content, None, 'the data do not say which')):
        with pytest.raises(ValueError, match=told):
            match_classes(model, wrong, classes, 'x.pth')


def test_marked_layers_keep_their_parameters_names():
    layer = by_class(nn.Conv2d(2, 3, 1))
    assert list(rows_by_class(nn.Sequential(nn.ReLU(), layer))) == ['1.weight', '1.bias']
    assert set(layer.state_dict()) == {'weight', 'bias'}


def test_the_option_sets_what_a_config_could_say_itself(trained_run, tmp_path):
    checkpoint = trained_run / 'iter_2.pth'
    hooks = dict(guard=dict(type='CheckpointGuardHook'), timer=dict(type='T'))
    config = Config(dict(load_from=None, default_hooks=hooks, work_dir=str(tmp_path)))
    use_start(config, checkpoint)
    assert config.load_from == str(checkpoint) and config.default_hooks.timer == dict(type='T')
    assert config.default_hooks.guard == dict(type='CheckpointGuardHook', other_classes='match')
    with pytest.raises(FileNotFoundError, match='no such checkpoint. Did you mean'):
        use_start(config, trained_run / 'iter_3.pth')
    config.work_dir = str(trained_run)
    with pytest.raises(ValueError, match='lies in the work dir that this training would write into.*_2$'):
        use_start(config, checkpoint)
    use_start(config, checkpoint, resume=True)
