"""COCO 2014; training on train2014 (82,081 images with an object), evaluation on val2014 (40,137).

Prepare once: python tools/prepare_coco.py data/coco
Another folder: --cfg-options data_root=/where/it/is
"""
data_root = 'data/coco'
crop_size = 320
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSeededSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='CocoReader', data_root=data_root, split='train2014'),
        unlabelled='skip',  # the published splits leave out images without any object
        pipeline=[
            dict(type='RandomScale', ratio=(0.5, 2.0)),
            dict(type='RandomFlip'),
            dict(type='RandomCrop', size=crop_size),
            dict(type='PackSample')]))
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='CocoReader', data_root=data_root, split='val2014'),
        unlabelled='skip', with_masks=True,
        pipeline=[dict(type='ResizeLong', size=512), dict(type='PackSample')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
# Pseudo labels are scored on training images after training; a training step never reads these masks.
seed_dataset = dict(
    type='ImageLabelDataset', reader=dict(type='CocoReader', data_root=data_root, split='train2014'),
    unlabelled='skip', with_masks=True, pipeline=[dict(type='ResizeToMultiple', divisor=16), dict(type='PackSample')])
