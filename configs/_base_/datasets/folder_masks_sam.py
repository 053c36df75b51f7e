"""Your own photographs, those of 'val' with masks that score the model, all of 'train' with SAM masks."""
_base_ = './folder_masks.py'
mask_bank = 'work_dirs/masks/folder_train'
mask_dataset = 'folder'
train_dataloader = dict(dataset=dict(mask_bank=True))
seed_dataset = dict(mask_bank=True, with_masks=False)
