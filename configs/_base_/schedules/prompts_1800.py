"""1,800 iterations of SGD for prompts: 500 at 1/100 of the rate, then cosine to zero (published)."""
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1800, val_interval=600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='Bf16OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='ConstantLR', factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', T_max=1300, eta_min=0, by_epoch=False, begin=500, end=1800)]
