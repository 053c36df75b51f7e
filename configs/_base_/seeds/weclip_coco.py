"""WeCLIP's pseudo labels on COCO: GradCAM, attention that RFM chose, PAR."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=10, warmup_layers=8, selection='published', threshold=0.7, rounds=3, power=2),
    dict(type='Par', iterations=20, dilations=(1, 2, 4, 8, 12, 24)),
    dict(type='PixelLabels')]
