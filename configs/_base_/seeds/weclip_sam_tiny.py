"""WeCLIP-SAM's pseudo labels on the tiny CLIP: GradCAM, attention that RFM chose, votes of the tiny SAM's masks."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[1, 2], warmup_layers=[2], threshold=0.4),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='SamVote', background_value=2.0)]
