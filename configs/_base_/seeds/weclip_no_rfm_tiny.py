"""WeCLIP without RFM: the attention of the block that localises, as in CLIP-ES, then PAR."""
seeds = [
    dict(type='GradCam'),
    dict(type='AttentionAffinity', layers=[2], threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')]
