"""WeCLIP-SAM's pseudo labels on the tiny CLIP: GradCAM, attention weighed by RFM, votes of the tiny SAM's masks.

From RFM's switch on, the decoder's own prediction is half of the maps that are voted on.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='BlendPrediction'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0)]
