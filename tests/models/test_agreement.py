"""WeCLIP+'s losses and decoder: what the golden arrays leave open."""
import pytest
import torch

from weclip_sam.features import TokenFeatures
from weclip_sam.models import BranchDecoder
from weclip_sam.models.agreement import Agreement, dice_loss, mutual_loss, replace_labels
from weclip_sam.registry import MODELS


def logits_of(labels, sure=20.0):
    return torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float() * sure


def test_dice_of_a_perfect_answer_is_zero_over_the_classes_that_occur():
    labels = torch.tensor([[[0, 1], [1, 255]]])
    perfect = logits_of(labels.masked_fill(labels == 255, 2))
    assert dice_loss(perfect, labels).item() == pytest.approx(0, abs=1e-6)
    # As published the absent class counts zero, and so does what is said of an ignored pixel.
    assert dice_loss(perfect, labels, 'all').item() == pytest.approx(1 / 3, abs=1e-6)
    assert dice_loss(logits_of(torch.tensor([[[1, 0], [0, 0]]])), labels).item() == pytest.approx(1, abs=1e-2)
    nothing = dice_loss(perfect.requires_grad_(), torch.full_like(labels, 255))
    nothing.backward()
    assert nothing.item() == 0 and not perfect.grad.isnan().any()


def test_each_branch_learns_from_the_other_and_never_itself():
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    first, second = (logits_of(torch.tensor([[[a, 1], [1, 1]]])).requires_grad_() for a in (0, 2))
    loss = mutual_loss((first, second), labels)
    loss.backward()
    assert loss > 1 and first.grad[0, :, 0, 0].abs().sum() > 0
    assert mutual_loss((first, first), labels).item() == pytest.approx(0, abs=1e-6)
    assert mutual_loss((first, second), torch.full_like(labels, 255)).item() == 0


def test_sure_answers_replace_labels_but_never_by_an_absent_class():
    labels = torch.tensor([[[0, 0], [2, 255]]])
    answer = logits_of(torch.tensor([[[1, 2], [0, 1]]]))
    named = torch.tensor([[True, False]])
    assert replace_labels(labels, answer, named).tolist() == [[[1, 0], [0, 255]]]
    assert replace_labels(labels, answer, named, classes='any').tolist() == [[[1, 2], [0, 255]]]
    assert torch.equal(replace_labels(labels, answer * 0.01, named), labels)


def test_labels_are_replaced_after_the_start_alone():
    labels, answer = torch.zeros(1, 1, 1).long(), logits_of(torch.ones(1, 1, 1).long())
    named = torch.tensor([[True, True]])
    agreement = Agreement(replace_start=5)
    assert [int(agreement.replaced(labels, answer, named, i)) for i in (4, 5, 6)] == [0, 0, 1]
    assert Agreement().replaced(labels, answer, named, 10 ** 6) is labels
    assert Agreement().losses(answer, (), labels) == {}


@pytest.mark.parametrize('settings, said', [
    (dict(dice_classes='most'), 'agreement dice_classes: expected one of'),
    (dict(mutual_weight=-1), 'expected weights >= 0'), (dict(replace_confidence=2), r'expected a number in \[0, 1\]')])
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        Agreement(**settings)


# ---- decoder with branches -----------------------------------------------------------------------------------------

SIZES = dict(clip=(8, 3), dino=(6, 2))


def features():
    generator = torch.Generator().manual_seed(0)
    return dict(clip=TokenFeatures(torch.rand(3, 2, 1 + 6, 8, generator=generator), (2, 3)),
                dino=TokenFeatures(torch.rand(2, 2, 1 + 12, 6, generator=generator), (4, 3)))


def test_branches_share_a_head_and_the_answer_is_their_mean():
    decoder = BranchDecoder(SIZES, 4, dict(clip=1, dino=[-1]), dim=16, depth=1, heads=2).eval()
    assert {name: sorted(wanted.tokens) for name, wanted in decoder.wants().items()} == dict(clip=[1], dino=[1])
    decoded = decoder(features())
    assert decoded.seg_logits.shape == (2, 5, 2, 3) and decoded.affinity_logits.shape == (2, 6, 6)
    torch.testing.assert_close(decoded.seg_logits, sum(decoded.branches) / 2)
    assert not torch.equal(*decoded.branches)
    torch.testing.assert_close(decoded.affinity_logits, decoded.affinity_logits.mT)
    swapped = BranchDecoder(SIZES, 4, dict(dino=[-1], clip=1), dim=16, depth=1, heads=2).eval()
    assert swapped(features()).seg_logits.shape == (2, 5, 4, 3)  # the first encoder's grid


def test_errors_of_branches():
    with pytest.raises(ValueError, match=r"branches name \['dyno'\], but there are the encoders \['clip', 'dino'\]"):
        BranchDecoder(SIZES, 4, dict(clip=1, dyno=[-1]))
    with pytest.raises(ValueError, match='branches names no encoder'):
        BranchDecoder(SIZES, 4, {})
    names = ['cat', 'dog']
    config = dict(type='WeClip', clip=dict(type='FrozenClip', arch='tiny', checkpoint='random'),
                  decoder=dict(type='WeClipDecoder', dim=16, depth=1, heads=2), seeds=[dict(type='GradCam'),
                  dict(type='PixelLabels')], vocabulary=dict(classes=names, prompt_names=names, background_nouns=[]))
    with pytest.raises(ValueError, match='mutual_weight needs a decoder with at least two branches'):
        MODELS.build(dict(config, agreement=dict(mutual_weight=0.1)))
    with pytest.raises(ValueError, match="no encoder is called 'dino'; there are"):
        MODELS.build(dict(config, decoder=dict(type='BranchDecoder', branches=dict(clip=1, dino=[-1]))))
