"""WeCLIP without RFM on the embedded data set: what the decoder's affinity brings to the labels. Minutes on two cores.
Val: 60.7 ± 0.2 (measured).

    python tools/train.py configs/weclip/weclip-no-rfm_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_tiny.py', '../_base_/seeds/weclip_no_rfm_tiny.py',
          '../_base_/schedules/400.py', '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}})
custom_hooks = [dict(type='SeedEvalHook')]
