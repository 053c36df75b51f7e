"""100,000 iterations of the same schedule as deeplab_20k.py."""
_base_ = './deeplab_20k.py'
train_cfg = dict(max_iters=100000, val_interval=10000)
param_scheduler = [dict(_base_.param_scheduler[0], end=100000)]
