"""WeCLIP-SAM by the first version's recipe on COCO 2014. No published score. SAM masks are made once:
hours on one GPU, shared by all methods. Training: not measured.

    python tools/prepare_coco.py data/coco
    python tools/make_masks.py configs/weclip_sam/weclip-sam-v1_vit-b16_80k_coco.py
    python tools/train.py configs/weclip_sam/weclip-sam-v1_vit-b16_80k_coco.py
"""
_base_ = ['../_base_/datasets/coco_sam.py', '../_base_/models/weclip_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/weclip_sam_v1_coco.py', '../_base_/schedules/80k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}}, rfm_start=40_000)
custom_hooks = [dict(type='MaskBankHook'), dict(type='SeedEvalHook')]
