"""CLIP-ES's seeds on VOC 2012. Published seeds on VOC train: 58.6 (GradCAM), 70.8 (+ affinity), 75.0 (+ CRF, before the
cut-off: --cfg-options model.seeds.2.min_confidence=None). Cost: not measured.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_voc.py --evaluate
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/seeds/clip_es.py']
model = dict(seeds={{_base_.seeds}})
