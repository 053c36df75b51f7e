"""WeCLIP on COCO 2014. Published (WeCLIP, val): 47.1 with multi-scale and CRF. Cost: not measured.

    python tools/prepare_coco.py data/coco
    python tools/train.py configs/weclip/weclip_vit-b16_80k_coco.py
"""
_base_ = ['../_base_/datasets/coco.py', '../_base_/models/weclip_vit-b16.py', '../_base_/seeds/weclip_coco.py',
          '../_base_/schedules/80k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}}, rfm_start=40_000)
custom_hooks = [dict(type='SeedEvalHook')]
