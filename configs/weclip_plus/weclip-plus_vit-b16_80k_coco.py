"""WeCLIP+ on COCO 2014. Published (val): 56.3, with larger networks. Cost: not measured.

    python tools/prepare_coco.py data/coco
    python tools/train.py configs/weclip_plus/weclip-plus_vit-b16_80k_coco.py
"""
_base_ = ['../_base_/datasets/coco.py', '../_base_/models/weclip_plus_vit-b16.py',
          '../_base_/seeds/weclip_plus_coco.py', '../_base_/schedules/80k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}}, agreement=dict(replace_start=40_000))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_dataloader = dict(batch_size=8)
custom_hooks = [dict(type='SeedEvalHook')]
