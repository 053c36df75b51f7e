"""Your own photographs, with masks for evaluation: images/, labels.csv, masks/<image>.png (0 background, 1.., 255).

Trains on the images that the hash of their names puts into 'train' and validates on 'val'; masks are opened for
evaluation only. Your folder: --cfg-options data_root=/where/it/is; lists of your own instead of the hash, one image
name a line: train_split=train.txt val_split=val.txt
"""
data_root = 'data/photos'
train_split = 'train'
val_split = 'val'
crop_size = 320
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSeededSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=data_root, split=train_split),
        pipeline=[
            # Photographs have many megapixels: start from about the size that VOC's images have.
            dict(type='ResizeLong', size=512),
            dict(type='RandomScale', ratio=(0.5, 2.0)),
            dict(type='RandomFlip'),
            dict(type='RandomCrop', size=crop_size),
            dict(type='ColorJitter'),
            dict(type='PackSample')]))
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=data_root, split=val_split),
        with_masks=True,
        pipeline=[dict(type='ResizeLong', size=512), dict(type='PackSample')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
# Seeds are made at this size and scored on the images that are trained on; a training step never reads these masks.
seed_dataset = dict(
    type='ImageLabelDataset', reader=dict(type='FolderReader', data_root=data_root, split=train_split),
    with_masks=True,
    pipeline=[dict(type='ResizeLong', size=512), dict(type='ResizeToMultiple', divisor=16), dict(type='PackSample')])
