"""VOC for prompt tuning as in FMA-WSSS: long side 288-480, crop 224; validation looks at image labels alone."""
_base_ = './voc.py'
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=[
    dict(type='ResizeLong', size=(288, 480)),
    dict(type='RandomCrop', size=224),
    dict(type='RandomFlip'),
    dict(type='ColorJitter'),
    dict(type='PackSample')]))
val_dataloader = dict(dataset=dict(with_masks=False))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='MultiLabelMAP')
test_evaluator = val_evaluator
