"""WeCLIP+'s pseudo labels on VOC: GradCAM times the decoder's probability, RFM without boxes, PAR.

The public VOC code lets GradCAM's last block read the output of the one before the last but one, probably by a slip:
dict(type='GradCam', skip=1).
"""
seeds = [
    dict(type='GradCam'),
    dict(type='WeighByPrediction'),
    dict(type='RfmAffinity', layers=6, warmup_layers=8, selection='published', threshold=None, rounds=3, power=2),
    dict(type='Par', iterations=20, dilations=(1, 2, 4, 8, 12, 24)),
    dict(type='PixelLabels')]
