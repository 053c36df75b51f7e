"""80,000 iterations of the same schedule as 30k.py."""
_base_ = './30k.py'
train_cfg = dict(max_iters=80000, val_interval=8000)
param_scheduler = [dict(_base_.param_scheduler[0], end=80000)]
