"""CLIP-ES's seeds on COCO 2014. No published score of the seeds; the second stage reaches 45.4 on COCO val (published).
Cost: not measured.

    python tools/prepare_coco.py data/coco
    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_coco.py --evaluate
"""
_base_ = ['../_base_/datasets/coco.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/seeds/clip_es_coco.py']
model = dict(seeds={{_base_.seeds}})
