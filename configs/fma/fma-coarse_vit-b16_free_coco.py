"""FMA-WSSS on COCO 2014, step 2 of 4: coarse seeds with the prompts of step 1. No published score. Cost: not measured.

    python tools/make_masks.py configs/fma/fma-coarse_vit-b16_free_coco.py
    python tools/make_seeds.py configs/fma/fma-coarse_vit-b16_free_coco.py --evaluate
"""
_base_ = ['../_base_/datasets/coco_sam.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/fma_coarse_coco.py']
model = dict(seeds={{_base_.seeds}}, prompts='work_dirs/fma-cls-prompts_vit-b16_1800_coco/prompts.safetensors')
