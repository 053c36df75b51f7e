"""Your own photographs: a folder with images/ and labels.csv (image,classes with ; between names).

Trains on all images. There are no masks, so nothing is validated: leaf configs set val_cfg and test_cfg to None, and
save_best to None. With masks use folder_masks.py instead.
Your folder: --cfg-options data_root=/where/it/is
"""
_base_ = './folder_masks.py'
train_split = 'all'
train_dataloader = dict(dataset=dict(reader=dict(split=train_split)))
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
seed_dataset = dict(with_masks=False, reader=dict(split=train_split))
