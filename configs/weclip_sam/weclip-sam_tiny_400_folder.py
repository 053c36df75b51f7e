"""A rehearsal of WeCLIP-SAM on your own photographs, with the bundled tiny networks and small images: minutes on a CPU.

    python tools/train.py configs/weclip_sam/weclip-sam_tiny_400_folder.py --cfg-options data_root=/where/it/is

Shows that files, names and machine are in order. The tiny networks know drawn scenes alone: expect no
sense in the labels.
"""
_base_ = ['../_base_/datasets/folder_tiny_sam.py', '../_base_/models/weclip_sam_tiny.py',
          '../_base_/models/tiny_sam.py', '../_base_/seeds/weclip_sam_tiny.py', '../_base_/schedules/400.py',
          '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None), sheets=dict(dataset={{_base_.seed_dataset}}))
custom_hooks = [dict(type='MaskBankHook')]
