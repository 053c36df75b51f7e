"""What every run shares: hooks, logging, random numbers. Iteration-based."""
default_scope = 'weclip_sam'
default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=2, save_best='mIoU'),
    guard=dict(type='CheckpointGuardHook'),
    data=dict(type='ResumeDataHook'),
    rng=dict(type='RngStateHook'),
    sheets=dict(type='SheetHook'),
    progress=dict(type='ProgressHook'),
    summary=dict(type='SummaryHook'))
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))
log_processor = dict(by_epoch=False, window_size=50)
log_level = 'INFO'
# Without a name: a second run in the same process would otherwise write into the first one's folder.
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
tracker = None  # 'wandb' or 'mlflow': train.py --track (docs/watching.md)
randomness = dict(seed=0)
load_from = None
resume = False
