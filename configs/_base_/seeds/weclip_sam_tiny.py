"""WeCLIP-SAM's pseudo labels on the tiny networks: the mean of three maps, the decoder's prediction, votes of masks.

The three maps: GradCAM, ExCEL's, and ExCEL's spread along what SAM's own encoder holds for alike. From the switch on,
the decoder's own prediction is two thirds of the maps that are voted on.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='ExcelMaps', blocks=3, stretch='tokens'),
    dict(type='EyeAffinity', eye='sam', temperature=0.5),
    dict(type='BlendMaps', earlier=['gradcam', 'excel']),
    dict(type='BlendPrediction', weight=0.65),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=0.8)]
