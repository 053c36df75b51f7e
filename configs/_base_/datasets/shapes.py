"""The embedded data set: procedural scenes with ten classes, rendered when they are asked for."""
image_size = 112
scenes_seed = 0  # of all splits: another one is another data set of the same kind
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='InfiniteSeededSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='ShapesReader', split='train', num_images=400, size=image_size),
        pipeline=[
            dict(type='RandomScale', ratio=(0.75, 1.5)),
            dict(type='RandomCrop', size=image_size),
            dict(type='RandomFlip'),
            dict(type='PackSample')]))
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageLabelDataset', reader=dict(type='ShapesReader', split='val', num_images=300, size=image_size),
        with_masks=True, pipeline=[dict(type='PackSample')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
# Pseudo labels are scored on training images after training; the masks for that are drawn then, and never before.
seed_dataset = dict(
    type='ImageLabelDataset', reader=dict(type='ShapesReader', split='train', num_images=400, size=image_size),
    with_masks=True, pipeline=[dict(type='PackSample')])
# Scenes for choosing settings by ground truth: neither trained on nor reported on.
tune_dataset = dict(
    type='ImageLabelDataset', reader=dict(type='ShapesReader', split='tune', num_images=200, size=image_size))
# The published test scales, 1 and 0.75, are for larger images: on tune they cost a point, these gain half a point.
tta = dict(scales=(1.0, 1.5), flip=True)
