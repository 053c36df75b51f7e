"""WeCLIP's pseudo labels on the tiny CLIP: GradCAM, attention that RFM chose out of all six blocks, PAR."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=6, warmup_layers=6, threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')]
