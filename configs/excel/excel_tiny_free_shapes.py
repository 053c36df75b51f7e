"""ExCEL's training-free seeds on the embedded data set: CLIP without a gradient. Forty seconds on one core.
Labels on train: 65.6 (measured).

    python tools/make_seeds.py configs/excel/excel_tiny_free_shapes.py --evaluate
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/seed_maker_tiny.py', '../_base_/seeds/excel_tiny.py']
model = dict(seeds={{_base_.seeds}})
