"""400 iterations of AdamW with WeCLIP's schedule: short warm-up, then linear to zero."""
train_cfg = dict(type='IterBasedTrainLoop', max_iters=400, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [dict(type='PolyWarmupLR', warmup_iters=20, by_epoch=False, end=400)]
