"""The toy run: tests copy it, change numbers through options."""
_base_ = ['../../../configs/_base_/runtime.py']
custom_imports = dict(imports=['toy_parts'])
model = dict(type='ToySegmentor')
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='ToyPictures', noise=True),
                        sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(batch_size=3, num_workers=0, dataset=dict(type='ToyPictures', length=5, with_masks=True),
                      sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=4)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=4), sheets=dict(height=32))
custom_hooks = [dict(type='CurriculumHook'),
                dict(type='SeedEvalHook', dataset=dict(type='ToyPictures', length=4, with_masks=True))]
