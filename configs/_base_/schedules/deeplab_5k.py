"""5,000 iterations of the same schedule as deeplab_20k.py."""
_base_ = './deeplab_20k.py'
train_cfg = dict(max_iters=5000, val_interval=1000)
param_scheduler = [dict(_base_.param_scheduler[0], end=5000)]
