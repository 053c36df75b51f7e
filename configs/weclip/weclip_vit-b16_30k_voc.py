"""WeCLIP on VOC 2012. Published (WeCLIP, val): 74.9, 76.4 with multi-scale and CRF; others re-ran the public code:
73.3-73.9. 270 minutes and 6.2 GB on one GPU.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/train.py configs/weclip/weclip_vit-b16_30k_voc.py
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/weclip_vit-b16.py', '../_base_/seeds/weclip.py',
          '../_base_/schedules/30k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
custom_hooks = [dict(type='SeedEvalHook')]
