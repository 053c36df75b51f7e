"""WeCLIP's pseudo labels on the tiny CLIP: GradCAM, attention weighed by RFM, PAR.

One block of the tiny CLIP localises far better than the rest, so RFM has nothing to choose from: what it brings is the
decoder's affinity, by which the attention is multiplied.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=[2], warmup_layers=[2], threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')]
