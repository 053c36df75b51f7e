"""WeCLIP-SAM's pseudo labels on COCO: GradCAM, attention that RFM chose, votes of thinned SAM masks.

Thinning and background as FMA-WSSS publishes them for VOC; the mean with GradCAM is ours. Not tuned on real data.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=10, warmup_layers=8, selection='published', threshold=0.7, rounds=3, power=2),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=0.6)]
