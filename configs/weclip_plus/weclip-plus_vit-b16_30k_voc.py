"""WeCLIP+ on VOC 2012: WeCLIP with a frozen DINOv2 beside CLIP. Published (test): 83.9, with larger networks. Cost: not
measured.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/train.py configs/weclip_plus/weclip-plus_vit-b16_30k_voc.py
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/weclip_plus_vit-b16.py', '../_base_/seeds/weclip_plus.py',
          '../_base_/schedules/30k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
optim_wrapper = dict(optimizer=dict(lr=2e-4))  # a tenth of WeCLIP's
custom_hooks = [dict(type='SeedEvalHook')]
