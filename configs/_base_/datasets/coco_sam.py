"""COCO with SAM masks: python tools/make_masks.py CONFIG, or training makes what is missing."""
_base_ = './coco.py'
mask_bank = 'work_dirs/masks/coco_train'
mask_dataset = 'coco'
train_dataloader = dict(dataset=dict(mask_bank=True))
seed_dataset = dict(mask_bank=True)
