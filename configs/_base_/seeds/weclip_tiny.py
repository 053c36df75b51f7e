"""WeCLIP's pseudo labels on the tiny CLIP: GradCAM, attention that RFM chose, PAR."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[1, 2], warmup_layers=[2], threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')]
