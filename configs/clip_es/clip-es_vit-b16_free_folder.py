"""CLIP-ES's seeds on your own photographs. Training-free. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_folder.py --cfg-options data_root=/where/it/is
"""
_base_ = ['../_base_/datasets/folder.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/seeds/clip_es.py']
model = dict(seeds={{_base_.seeds}})
