"""5,000 iterations of AdamW as WeCLIP trains its decoder: 10 x 2e-4, warm-up of 50 iterations, then linear."""
train_cfg = dict(type='IterBasedTrainLoop', max_iters=5000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01))
param_scheduler = [
    dict(type='PolyWarmupLR', warmup_iters=50, warmup_ratio=1e-6, power=1.0, by_epoch=False, end=5000)]
