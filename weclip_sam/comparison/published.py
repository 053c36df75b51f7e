"""Figures that other people published, for a table of their own: they were not measured here.

Percent mIoU. None stands for what the source used here does not say; it is never filled in by a guess.
"""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigure:
    """One row of the published table.

    Attributes:
        method: as its authors call it; in brackets, what is special about this row.
        stages: ``single``, ``multi`` or ``training-free``.
        backbone: of the network that makes the final segmentation.
        extra: foundation models used besides the backbone.
        crf, multi_scale: whether the final scores use them; None where unknown.
        seeds: mIoU of the pseudo labels, with the split they were scored on.
        voc_val, voc_test, coco_val: percent mIoU as printed, or a range.
        note: what a reader must know to compare.
        paper: where it was published.
    """

    method: str
    stages: str
    backbone: str | None
    extra: str | None
    crf: bool | None
    multi_scale: bool | None
    voc_val: str | None = None
    voc_test: str | None = None
    coco_val: str | None = None
    seeds: str | None = None
    note: str = ''
    paper: str = ''


_CLIP_ES, _SEPL, _FMA, _WECLIP = ('CLIP-ES, CVPR 2023', 'SEPL, SAM_WSSS, 2023', 'FMA-WSSS, WACV 2024',
                                  'WeCLIP, CVPR 2024')

PUBLISHED: tuple[PublishedFigure, ...] = (
    # The four systems of this package.
    PublishedFigure('CLIP-ES (ImageNet weights)', 'multi', 'DeepLabV2, ResNet-101', 'CLIP ViT-B/16', None, None, '71.1',
                    '71.4', None, 'VOC train 58.6, +CAA 70.8, +CRF 75.0',
                    'on train_aug the seeds score lower (about 66 and 68.8)', _CLIP_ES),
    PublishedFigure('CLIP-ES (COCO weights)', 'multi', 'DeepLabV2, ResNet-101', 'CLIP ViT-B/16', None, None, '73.8',
                    '73.9', '45.4', None, 'which weights the COCO figure used is not stated here', _CLIP_ES),
    PublishedFigure('SEPL on CLIMS', 'multi', None, 'SAM ViT-H', None, None, '71.1',
                    note="CLIMS's own second stage", paper=_SEPL),
    PublishedFigure('SEPL on CLIP-ES', 'multi', None, 'CLIP, SAM ViT-H', None, None, '73.1',
                    note="CLIP-ES's own second stage", paper=_SEPL),
    PublishedFigure('SEPL on L2G', 'multi', None, 'SAM ViT-H', None, None, '72.4', note="L2G's own second stage",
                    paper=_SEPL),
    PublishedFigure('SEPL on EPS', 'multi', None, 'SAM ViT-H', None, None, '72.1', note="EPS's own second stage",
                    paper=_SEPL),
    PublishedFigure('FMA-WSSS', 'multi', 'Mask2Former, Swin-L', 'CLIP, SAM', None, None, '82.6-83.1', '81.6', '55.4',
                    'VOC train_aug 74.2 (73.9 reproduced), COCO 47.5', 'the larger figure is the one usually cited',
                    _FMA),
    PublishedFigure('WeCLIP (raw)', 'single', 'frozen CLIP ViT-B/16', 'none', False, False, '74.9',
                    note='users who ran the public code again report 73.3-73.9', paper=_WECLIP),
    PublishedFigure('WeCLIP (multi-scale, CRF)', 'single', 'frozen CLIP ViT-B/16', 'none', True, True, '76.4', '77.2',
                    '47.1', note='about 270 minutes and 6.2 GB on one GPU', paper=_WECLIP),
    PublishedFigure('WeCLIP without RFM', 'single', 'frozen CLIP ViT-B/16', 'none', None, None, '68.7',
                    note='ablation', paper=_WECLIP),
    # Where the field is.
    PublishedFigure('ToCo', 'single', 'ViT-B', None, None, None, '71.1', '72.2', '42.2'),
    PublishedFigure('MoRe', 'single', 'ViT-B', None, None, None, '76.4', '75.0', '47.4'),
    PublishedFigure('ExCEL', 'single', 'ViT-B', None, None, None, '78.4', '78.5', '50.3'),
    PublishedFigure('DiCLIP', 'single', 'ViT-B', None, None, None, '78.8', '78.9', '48.7'),
    PublishedFigure('SSR', 'single', 'ViT-B', 'DINO', None, None, '79.5', '79.6', '50.6'),
    PublishedFigure('WeCLIP+', 'single', 'frozen CLIP', 'DINOv2', None, None, None, '83.9', '56.3'),
    PublishedFigure('S2C', 'multi', None, None, None, None, '78.2', '77.5', '49.8'),
    PublishedFigure('DHR', 'multi', 'Swin-L', None, None, None, '82.3', '82.3', '56.8'),
    PublishedFigure('ModuSeg', 'training-free', None, 'a mask proposer', None, None, '86.3', '86.6', '56.7'),
)
