"""VOC with SAM masks: python tools/make_masks.py CONFIG, or training makes what is missing."""
_base_ = './voc.py'
mask_bank = 'work_dirs/masks/voc_train'
mask_dataset = 'voc'
train_dataloader = dict(dataset=dict(mask_bank=True))
seed_dataset = dict(mask_bank=True)
