"""PASCAL VOC 2012; training on the 10,582 images of train_aug with labels from the XML annotations.

Prepare once: python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
Another folder: --cfg-options data_root=/where/it/is
"""
data_root = 'data/VOCdevkit/VOC2012'
crop_size = 320
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSeededSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='VocReader', data_root=data_root, split='train_aug'),
        pipeline=[
            dict(type='RandomScale', ratio=(0.5, 2.0)),
            dict(type='RandomFlip'),
            dict(type='RandomCrop', size=crop_size),
            dict(type='PackSample')]))
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='VocReader', data_root=data_root, split='val'), with_masks=True,
        pipeline=[dict(type='ResizeLong', size=512), dict(type='PackSample')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
# Pseudo labels are scored on the 1,464 images of train, as the papers do; a training step never reads these masks.
seed_dataset = dict(
    type='ImageLabelDataset', reader=dict(type='VocReader', data_root=data_root, split='train'), with_masks=True,
    pipeline=[dict(type='ResizeToMultiple', divisor=16), dict(type='PackSample')])
