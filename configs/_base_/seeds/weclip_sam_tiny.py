"""WeCLIP-SAM's pseudo labels on the tiny CLIP: GradCAM, attention weighed by RFM, votes of the tiny SAM's masks."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0)]
