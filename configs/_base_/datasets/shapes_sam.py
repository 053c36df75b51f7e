"""The embedded data set with the masks that the bundled SAM makes for it."""
_base_ = './shapes.py'
mask_bank = 'work_dirs/masks/shapes_train'
mask_dataset = 'shapes'
train_dataloader = dict(dataset=dict(mask_bank=True))
seed_dataset = dict(mask_bank=True)
