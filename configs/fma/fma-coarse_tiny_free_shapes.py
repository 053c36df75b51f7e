"""FMA-WSSS on the embedded data set, step 2 of 4: coarse seeds with the prompts of step 1. Minutes on two cores. Labels
on train: 72.3, 72.9 and 73.2 of three seeds (measured).

    python tools/make_masks.py configs/fma/fma-coarse_tiny_free_shapes.py
    python tools/make_seeds.py configs/fma/fma-coarse_tiny_free_shapes.py --evaluate
"""
_base_ = ['../_base_/datasets/shapes_sam.py', '../_base_/models/seed_maker_tiny.py', '../_base_/models/tiny_sam.py',
          '../_base_/seeds/fma_coarse_tiny.py']
model = dict(seeds={{_base_.seeds}}, prompts='work_dirs/fma-cls-prompts_tiny_200_shapes/prompts.safetensors')
