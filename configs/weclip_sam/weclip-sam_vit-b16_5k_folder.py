"""WeCLIP-SAM on your own photographs: a folder with images/ and labels.csv. No masks are needed, so nothing is
validated. Cost: not measured.

    python tools/train.py configs/weclip_sam/weclip-sam_vit-b16_5k_folder.py --cfg-options data_root=/where/it/is
"""
_base_ = ['../_base_/datasets/folder_sam.py', '../_base_/models/weclip_sam_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/weclip_sam.py', '../_base_/schedules/5k.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}}, rfm_start=2_500)
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None), sheets=dict(dataset={{_base_.seed_dataset}}))
custom_hooks = [dict(type='MaskBankHook')]
