"""SEPL on CLIP-ES's seeds of the embedded data set; training-free. Seconds, once the masks are made. Labels on train:
71.5 (measured).

    python tools/make_seeds.py configs/clip_es/clip-es_tiny_free_shapes.py
    python tools/make_masks.py configs/sepl/sepl_tiny_free_shapes.py
    python tools/make_seeds.py configs/sepl/sepl_tiny_free_shapes.py --evaluate

Anybody's label PNGs instead: --labels DIR
"""
_base_ = ['../_base_/datasets/shapes_sam.py', '../_base_/models/seed_maker_labels.py', '../_base_/models/tiny_sam.py',
          '../_base_/seeds/sepl.py']
model = dict(seeds={{_base_.seeds}})
input_labels = 'work_dirs/clip-es_tiny_free_shapes/seeds/{split}'
