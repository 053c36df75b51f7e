"""WeCLIP-SAM's pseudo labels on VOC: GradCAM, attention that RFM chose, the decoder, votes of thinned SAM masks.

Thinning and background as FMA-WSSS publishes them for VOC; the means with GradCAM and, from RFM's switch on, with the
decoder's prediction are ours. Not tuned on real data.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=6, warmup_layers=8, selection='published', threshold=0.4, rounds=3, power=2),
    dict(type='BlendMaps', earlier='gradcam'),
    dict(type='BlendPrediction'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=0.6)]
