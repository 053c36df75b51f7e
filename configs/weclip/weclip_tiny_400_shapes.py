"""WeCLIP (without SAM) on the embedded data set. Minutes on two cores. Val: 60.7 ± 0.4 (measured).

    python tools/train.py configs/weclip/weclip_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_tiny.py', '../_base_/seeds/weclip_tiny.py',
          '../_base_/schedules/400.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
custom_hooks = [dict(type='SeedEvalHook')]
