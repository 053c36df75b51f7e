import pytest
import torch

from weclip_sam.seeds.gradcam import GradCam, class_scores, gradcam, present_pairs, stretch
from weclip_sam.structures import ClipFeatures


class ToyClip:
    """A last block small enough to differentiate on paper: the embedding is the mean patch of the activations."""

    logit_scale = torch.tensor(2.0)

    def last_ln1(self, tokens):
        return tokens * 3

    def finish(self, tokens, activations=None):
        return activations[:, 1:].mean(1), None


@pytest.fixture()
def toy():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 3, 7, 4, generator=generator)  # L B 1+P D
    features = ClipFeatures(tokens, torch.zeros(2, 3, 7, 7), (2, 3))
    text = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=-1)  # 3 classes, 2 nouns
    labels = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    return features, text, labels


def by_hand(features, text, labels, sample, category):
    """y_c differentiated on paper: dy_c/dv = 2 y_c (t_c - sum_j y_j t_j), spread evenly over the patches."""
    activations = features.last_block_input[sample, 1:] * 3
    logits = 2 * text @ activations.mean(0)
    allowed = torch.cat([labels[sample], torch.ones(2, dtype=torch.bool)])
    y = logits.masked_fill(~allowed, -torch.inf).softmax(0)
    gradient = 2 * y[category] * (text[category] - y @ text) / 6
    return (activations @ gradient).view(2, 3)


def test_maps_of_all_pairs_equal_the_formula(toy):
    features, text, labels = toy
    maps = gradcam(ToyClip(), features, text, labels, signed=True)
    assert maps.sample_index.tolist() == [0, 0, 2] and maps.class_index.tolist() == [0, 2, 1]
    for row, (sample, category) in enumerate(zip([0, 0, 2], [0, 2, 1], strict=True)):
        torch.testing.assert_close(maps.scores[row], by_hand(features, text, labels, sample, category))
    scaled = gradcam(ToyClip(), features, text, labels).scores
    torch.testing.assert_close(scaled, stretch(maps.scores.relu(), 2))
    assert (maps.scores < 0).any() and not scaled.requires_grad


def test_works_inside_no_grad_and_gives_second_order_gradients(toy):
    features, text, labels = toy
    with torch.no_grad():
        assert gradcam(ToyClip(), features, text, labels).scores.shape == (3, 2, 3)
    text = text.double().float().requires_grad_()
    gradcam(ToyClip(), features, text, labels, signed=True, create_graph=True).scores.square().sum().backward()
    direction = torch.randn(text.shape, generator=torch.Generator().manual_seed(1))

    def loss(step):
        moved = text.detach() + step * direction
        return gradcam(ToyClip(), features, moved, labels, signed=True).scores.double().square().sum()

    numeric = (loss(1e-2) - loss(-1e-2)) / 2e-2
    torch.testing.assert_close((text.grad * direction).sum().double(), numeric, rtol=1e-2, atol=1e-4)


def test_a_batch_without_labels_has_no_maps(toy):
    features, text, labels = toy
    assert gradcam(ToyClip(), features, text, torch.zeros_like(labels)).scores.shape == (0, 2, 3)


def test_images_do_not_influence_each_other(toy):
    features, text, labels = toy
    alone = ClipFeatures(features.tokens[:, 2:], features.attentions[:, 2:], features.grid)
    together = gradcam(ToyClip(), features, text, labels).scores[2:]
    torch.testing.assert_close(gradcam(ToyClip(), alone, text, labels[2:]).scores, together)


def test_stretch_twice_leaves_254_of_255():
    maps = torch.tensor([[[2.0, 3.0], [4.0, 6.0]]])
    torch.testing.assert_close(stretch(maps), (maps - 2) / 4)
    # once may round to one; twice stays below it for a map whose first maximum is 1 - 1e-7
    assert int(stretch(torch.rand(5, 3, 3, generator=torch.Generator().manual_seed(0)), 2).amax() * 255) == 254
    assert stretch(torch.full((1, 2, 2), 3.0), 2).abs().max() == 0


def test_competitors():
    logits = torch.tensor([[1.0, 5.0, 2.0, 3.0], [4.0, 0.0, 1.0, 9.0]])  # 3 classes, 1 noun
    labels = torch.tensor([[True, False, True], [True, False, False]])
    index = torch.tensor([2, 0])
    e = logits.exp()
    expected = {
        'present': [e[0, 2] / (e[0, 0] + e[0, 2] + e[0, 3]), e[1, 0] / (e[1, 0] + e[1, 3])],
        'all': [e[0, 2] / e[0].sum(), e[1, 0] / e[1].sum()],
        'present_foreground': [e[0, 2] / (e[0, 0] + e[0, 2]), logits[1, 0]],
    }
    for name, values in expected.items():
        torch.testing.assert_close(class_scores(logits, labels, index, name), torch.stack(values))
    with pytest.raises(ValueError, match="Did you mean 'present'"):
        class_scores(logits, labels, index, 'presnet')
    with pytest.raises(ValueError, match='competitors'):
        GradCam(competitors='none')


def test_pairs_and_errors(toy):
    features, text, labels = toy
    sample, category = present_pairs(labels)
    assert sample.tolist() == [0, 0, 2] and category.tolist() == [0, 2, 1]
    with pytest.raises(ValueError, match='image_labels'):
        gradcam(ToyClip(), features, text, labels[:2])
    with pytest.raises(ValueError, match='at least 3 rows'):
        gradcam(ToyClip(), features, text[:2], labels)
