"""WeCLIP-SAM's pseudo labels with DINO as the second eye: GradCAM, ExCEL's maps, these spread along DINO's affinity,
the decoder, votes of thinned SAM masks.

ExCEL's blocks as published; thinning and background as FMA-WSSS publishes them for VOC. The means are ours. Chosen on
the embedded data set with SAM's encoder as the second eye; not tuned on real data.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='ExcelMaps', blocks=5, stretch='tokens'),
    dict(type='EyeAffinity', eye='dino', temperature=0.5),
    dict(type='BlendMaps', earlier=['gradcam', 'excel']),
    dict(type='BlendPrediction'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=0.6)]
