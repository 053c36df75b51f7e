"""Your own photographs with SAM masks: python tools/make_masks.py CONFIG, or training makes what is missing."""
_base_ = './folder.py'
mask_bank = 'work_dirs/masks/folder_train'
mask_dataset = 'folder'
train_dataloader = dict(dataset=dict(mask_bank=True))
seed_dataset = dict(mask_bank=True)
