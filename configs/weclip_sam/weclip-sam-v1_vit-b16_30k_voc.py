"""WeCLIP-SAM by the first version's recipe on VOC 2012. No published score. SAM masks are made once:
hours on one GPU, shared by all methods. Training: not measured.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/make_masks.py configs/weclip_sam/weclip-sam-v1_vit-b16_30k_voc.py
    python tools/train.py configs/weclip_sam/weclip-sam-v1_vit-b16_30k_voc.py
"""
_base_ = ['../_base_/datasets/voc_sam.py', '../_base_/models/weclip_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/weclip_sam_v1.py', '../_base_/schedules/30k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
custom_hooks = [dict(type='MaskBankHook'), dict(type='SeedEvalHook')]
