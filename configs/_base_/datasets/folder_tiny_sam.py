"""Your own photographs at the size of the bundled tiny networks, with SAM masks."""
_base_ = './folder.py'
mask_bank = 'work_dirs/masks/folder_train_tiny'
mask_dataset = 'folder'
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    mask_bank=True, reader=dict(max_side=256), pipeline=[
        dict(type='ResizeLong', size=160), dict(type='RandomScale', ratio=(0.75, 1.5)),
        dict(type='RandomCrop', size=112), dict(type='RandomFlip'), dict(type='PackSample')]))
seed_dataset = dict(mask_bank=True, reader=dict(max_side=256), pipeline=[
    dict(type='ResizeLong', size=160), dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample')])
