"""Final labels are those that training is taught with, at the size of the image; confidence and doubts by hand."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from PIL import Image

from weclip_sam.datasets import ImageLabelDataset, Reader, Record
from weclip_sam.datasets.shapes.reader import ShapesReader, shapes_vocabulary
from weclip_sam.engine.hooks.seed_eval import evaluate_seeds
from weclip_sam.engine.start.restore import restore_model
from weclip_sam.foundation.named_sam import named_generator
from weclip_sam.models import labelling
from weclip_sam.models.labelling import final_labels
from weclip_sam.models.refine import SamAtTest, refinement
from weclip_sam.seeds.crf import dense_crf


class Pictures(Reader):
    """Scenes cut or enlarged to a size of one's own."""

    def __init__(self, size, count=2, names=True):
        self.scenes, self.shape = ShapesReader('train', count), size
        super().__init__(shapes_vocabulary(), [Record(r.image_id, r.classes if names else ()) for r in
                                               self.scenes.records])

    def load_image(self, index):
        height, width = self.shape
        picture = self.scenes.load_image(index)
        return picture.crop((0, 0, width, height)) if max(self.shape) <= 112 else picture.resize((width, height))

    def load_ground_truth(self, index):
        truth = Image.fromarray(self.scenes.load_ground_truth(index))
        height, width = self.shape
        return np.asarray(truth.crop((0, 0, width, height)))

    def check_masks(self):
        pass


@pytest.fixture(scope='module')
def voting(labelling_run):
    return restore_model(labelling_run / 'iter_400.pth', labels=True)[0]


@pytest.fixture(scope='module')
def refining(trained_run):
    """WeCLIP as published: RFM and PAR, no masks."""
    model = restore_model(trained_run / 'iter_2.pth', labels=True)[0]
    model.set_progress(model.rfm_start)
    return model


@pytest.fixture(scope='module')
def sam():
    return SamAtTest(named_generator('tiny'))


def images(size, original, sam=None, steps=(), **more):
    """A data set of two images with their masks, as seeds are made of it, or as the training hook looks at it."""
    def add_masks(results):
        if sam is not None:
            results['masks'] = sam.masks(torch.from_numpy(results['original'].transpose(2, 0, 1).copy())).packed()
        return results
    return ImageLabelDataset(Pictures(size, **more), [add_masks, *steps, dict(type='PackSample', original=original)],
                             with_masks=not original)


@pytest.mark.parametrize('size', [(112, 112), (101, 90)])
@pytest.mark.parametrize('name', ['voting', 'refining'])
def test_labels_are_those_that_training_is_taught_with(name, size, request, sam, tmp_path):
    model = request.getfixturevalue(name)
    masks = sam if name == 'voting' else None
    assert model.decoder_heard
    own, shown = images(size, True, masks), images(size, False, masks)
    made = [final_labels(model, own[i]['inputs'], own[i]['data_samples']) for i in range(2)]
    for i, labels in enumerate(made):
        seed = model.explain(pseudo_collate([shown[i]]))['seed']
        assert labels.labels.shape == size and torch.equal(labels.labels, seed) and len(seed.unique()) > 1
    # The hook looks at several images together; its score is that of these labels.
    scores = evaluate_seeds(SimpleNamespace(model=model), shown, None, str(tmp_path / 'seeds.json'))
    total = torch.zeros(11, 11)
    for i, labels in enumerate(made):
        truth = torch.from_numpy(shown[i]['data_samples'].ground_truth.numpy())
        total += torch.bincount((11 * truth + labels.labels).flatten(), minlength=121).view(11, 11)
    union = total.sum(0) + total.sum(1) - total.diag()
    assert scores['pseudo labels'] == pytest.approx(100 * float((total.diag() / union)[union > 0].mean()), abs=0.05)


def test_masks_that_nobody_brings_are_made(voting, sam):
    own, bare = images((112, 112), True, sam)[0], images((112, 112), True)[0]
    found = final_labels(voting, own['inputs'], own['data_samples'], sam)
    made = final_labels(voting, bare['inputs'], bare['data_samples'], sam)
    assert torch.equal(made.labels, found.labels) and made.sam.live and not found.sam.live
    assert made.sam.masks == found.sam.masks > 1
    with pytest.raises(ValueError, match='needs SAM masks'):
        final_labels(voting, bare['inputs'], bare['data_samples'])


def test_confidence_and_doubts_are_what_they_are_said_to_be(voting, sam):
    item = images((112, 112), True, sam)[0]
    inputs, sample = item['inputs'], item['data_samples']
    made = final_labels(voting, inputs, sample)
    features, decoded = voting.see(inputs[None].float(), None)
    decoded = replace(decoded, seg_logits=decoded.seg_logits.detach())
    start = voting.seed_state(inputs[None].float(), [sample], features, seg_affinity=decoded.affinity,
                              seg_logits=decoded.seg_logits, decoder_heard=True)
    state = voting.seeds(replace(start, keep_scores=True))
    possible = torch.tensor([0, *(c + 1 for c in sample.image_labels.nonzero()[:, 0].tolist())])
    chosen, background = state.chosen_by
    scores = torch.cat([background, chosen.scores])
    by_decoder = F.interpolate(decoded.seg_logits, (112, 112), mode='bilinear')[0, possible].softmax(0)
    place = torch.searchsorted(possible, made.labels)
    for y, x in ((0, 0), (50, 20), (60, 60), (80, 100), (111, 111)):
        own = scores[place[y, x], y, x]
        other = max(float(scores[k, y, x]) for k in range(len(possible)) if k != place[y, x])
        expected = (own / (own + other) + by_decoder[place[y, x], y, x]) / 2
        assert made.confidence[y, x] == pytest.approx(float(expected), abs=1e-5)
    assert 0 <= made.confidence.min() <= made.confidence.max() <= 1
    plain = voting.seeds(replace(start, decoder_heard=False))
    assert torch.equal(made.doubts['sam'], plain.pixel_labels[0] != made.labels)
    assert torch.equal(made.doubts['decoder'], possible[by_decoder.argmax(0)] != made.labels)
    maps = F.interpolate(plain.history['blend'].scores[None], (112, 112), mode='bilinear')[0]
    cam = torch.where(maps.amax(0) > 1 - maps.amax(0), possible[1:][maps.argmax(0)], 0)
    assert torch.equal(made.doubts['cam'], cam != made.labels)
    assert set(made.named) == set(sample.image_labels.nonzero()[:, 0].tolist())


def test_without_masks_nobody_asks_sam_and_an_unheard_decoder_changes_nothing(refining, voting, sam):
    item = images((112, 112), True)[0]
    made = final_labels(refining, item['inputs'], item['data_samples'])
    assert set(made.doubts) == {'cam', 'decoder'} and made.sam is None
    item = images((112, 112), True, sam)[0]
    voting.set_progress(0)
    try:
        unheard = final_labels(voting, item['inputs'], item['data_samples'])
    finally:
        voting.set_progress(399)
    assert not unheard.doubts['sam'].any()


def test_labels_have_the_size_of_the_image_though_the_model_looks_at_a_smaller_one(voting, sam):
    small = dict(type='ResizeLong', size=88)
    item = images((150, 170), True, sam, [small])[0]
    assert item['inputs'].shape == (3, 77, 88)
    made = final_labels(voting, item['inputs'], item['data_samples'])
    assert made.labels.shape == made.confidence.shape == made.doubts['cam'].shape == (150, 170)
    coarse = F.interpolate(made.labels[None, None, ::2, ::2].float(), scale_factor=2)[0, 0].long()
    assert (coarse != made.labels).any()  # they were not made on fewer pixels and enlarged


def test_an_image_without_names_is_background(voting, refining, sam):
    for model, masks in ((voting, sam), (refining, None)):
        item = images((64, 72), True, masks, names=False)[0]
        made = final_labels(model, item['inputs'], item['data_samples'])
        assert not made.labels.any() and made.named == {} and torch.equal(made.confidence, torch.ones(64, 72))
        assert not any(other.any() for other in made.doubts.values())


def test_a_model_of_offline_labels_makes_none():
    with pytest.raises(ValueError, match="labels='offline'"):
        final_labels(SimpleNamespace(seeds=None), None, None)


def test_a_refinement_starts_from_labels_and_decoder(voting, sam):
    item = images((112, 112), True, sam)[0]
    inputs, sample = item['inputs'], item['data_samples']
    crf = dict(iterations=3, backend='lattice')
    plain = final_labels(voting, inputs, sample)
    made = final_labels(voting, inputs, sample, refine=refinement(dict(crf=crf)))
    assert made.sam == plain.sam is not None  # a CRF does not ask SAM, but the labels had its masks
    logits = voting.tensor(inputs[None].float()).detach()
    possible = torch.tensor([0, *(c + 1 for c in sample.image_labels.nonzero()[:, 0].tolist())])
    by_decoder = F.interpolate(logits, (112, 112), mode='bilinear')[0, possible].softmax(0)
    hard = (plain.labels[None] == possible[:, None, None]).float()
    marginals = dense_crf(inputs.permute(1, 2, 0), 0.7 * hard + 0.3 * by_decoder, **crf)
    labels = possible[marginals.argmax(0)]
    assert (labels == made.labels).float().mean() > 0.999 and (made.labels != plain.labels).any()
    best, second = marginals.topk(2, 0).values
    expected = (best / (best + second) + by_decoder.gather(0, marginals.argmax(0)[None])[0]) / 2
    assert (expected - made.confidence).abs().median() < 1e-4


def test_where_labels_are_ignored_the_decoder_decides():
    rows, by_decoder = torch.tensor([[0, 1, 255]]), torch.tensor([[[0.5, 0.5, 0.2]], [[0.5, 0.5, 0.8]]])
    start = labelling._leaning(by_decoder, rows)
    assert torch.allclose(start, torch.tensor([[[0.85, 0.15, 0.2]], [[0.15, 0.85, 0.8]]]))
    confidence = labelling._confidence(rows, start, by_decoder)
    assert torch.allclose(confidence, torch.tensor([[(0.85 + 0.5) / 2, (0.85 + 0.5) / 2, 0]]))
