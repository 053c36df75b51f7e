"""Ablation of WeCLIP-SAM: all masks vote on the mean of CAM and propagated maps. Minutes on two cores. Val: 66.6
(measured).

    python tools/train.py configs/weclip_sam/weclip-sam-blend_tiny_400_shapes.py
"""
_base_ = './weclip-sam-v1_tiny_400_shapes.py'
model = dict(seeds=[
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='SamVote', background_value=1.0)])
