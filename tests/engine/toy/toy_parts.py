"""A two-layer segmentation model on random pictures: enough to drive the real Runner in milliseconds."""
import os

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from weclip_sam.registry import DATASETS, HOOKS, MODELS
from weclip_sam.structures import SegSample

CLASSES = ('cat', 'dog')


@MODELS.register_module(force=True)
class ToySegmentor(BaseModel):
    def __init__(self, dropout: float = 0.5, data_preprocessor=None, stages: bool = False):
        super().__init__(data_preprocessor)
        self.first = nn.Conv2d(3, 8, 1)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(8, len(CLASSES) + 1, 1)
        self.stages = stages
        self.register_buffer('progress', torch.zeros((), dtype=torch.long))

    def set_progress(self, iteration: int) -> None:
        self.progress.fill_(iteration)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack([i.float() for i in inputs]) / 255
        logits = self.second(self.dropout(torch.relu(self.first(images))))
        if mode == 'loss':
            target = torch.stack([s.image_labels.float().argmax() + 1 for s in data_samples])
            target = target[:, None, None].expand(-1, *logits.shape[2:])
            return dict(loss=nn.functional.cross_entropy(logits, target))
        if mode == 'tensor':
            return logits
        for sample, label in zip(data_samples, logits.argmax(1), strict=True):
            sample.prediction = label
        return data_samples

    def explain(self, data):
        sample = data['data_samples'][0]
        height, width = sample.ground_truth.shape
        cam = torch.linspace(0, 1, 16).view(1, 4, 4)
        seed = sample.ground_truth.clone()
        seed[0] = 255
        with torch.no_grad():
            prediction = self([data['inputs'][0]], [sample.clone()], mode='predict')[0].prediction
        stages = dict(stages=dict(first=seed)) if self.stages else {}
        return dict(cam=cam, cam_classes=torch.tensor([0]), seed=seed, prediction=prediction, **stages)


@DATASETS.register_module(force=True)
class ToyPictures(Dataset):
    """Pictures whose every pixel depends on numpy's and torch's global random numbers, like careless augmentation."""

    def __init__(self, length: int = 10, with_masks: bool = False, noise: bool = False):
        self.length, self.with_masks, self.noise = length, with_masks, noise
        self.metainfo = dict(classes=CLASSES, palette=[(0, 0, 0), (200, 0, 0), (0, 200, 0)])

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, 6, 8), generator=generator, dtype=torch.uint8)
        if self.noise:
            image = (image.float() + 20 * torch.rand(3, 6, 8) + 20 * np.random.rand()).clamp(0, 255).byte()  # noqa: NPY002
        sample = SegSample(metainfo=dict(image_id=f'img_{index}', image_path='', ori_shape=(6, 8), img_shape=(6, 8)))
        sample.set_data(dict(image_labels=torch.tensor([index % 2 == 0, index % 2 == 1])))
        if self.with_masks:
            truth = torch.randint(0, 3, (6, 8), generator=generator)
            # Of the image's own class, or evaluation would tell that the masks disagree with the names.
            sample.set_data(dict(ground_truth=torch.where(truth > 0, index % 2 + 1, 0)))
        return dict(inputs=image, data_samples=sample)


@HOOKS.register_module(force=True)
class ToyFaultHook(Hook):
    """An error before an iteration, in one process alone."""

    def __init__(self, rank: int, iteration: int):
        self.rank, self.iteration = rank, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (get_dist_info()[0], runner.iter) == (self.rank, self.iteration):
            raise ValueError(f'a fault of process {self.rank}')


@HOOKS.register_module(force=True)
class ToySeenHook(Hook):
    """Writes down which images each process trained on, and the parameters it ended with."""

    def __init__(self, out_dir: str):
        self.out_dir, self.seen = out_dir, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(([s.image_id for s in data_batch['data_samples']], float(outputs['loss'].detach())))

    def after_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        torch.save(dict(seen=self.seen, state={k: v.clone() for k, v in model.state_dict().items()}),
                   os.path.join(self.out_dir, f'rank{get_dist_info()[0]}.pt'))
