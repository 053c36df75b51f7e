"""WeCLIP without RFM: the attention of fixed blocks (those of RFM's warm-up), as in CLIP-ES, then PAR."""
seeds = [
    dict(type='GradCam'),
    dict(type='AttentionAffinity', layers=6, threshold=0.4),
    dict(type='Par'),
    dict(type='PixelLabels')]
