"""Ablation of WeCLIP-SAM: thinned masks vote; pixels that the maps alone name otherwise are ignored. Minutes on two
cores. Val: 58.3 (measured).

    python tools/train.py configs/weclip_sam/weclip-sam-agree_tiny_400_shapes.py
"""
_base_ = './weclip-sam-v1_tiny_400_shapes.py'
model = dict(seeds=[
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0),
    dict(type='IgnoreDisagreement')])
