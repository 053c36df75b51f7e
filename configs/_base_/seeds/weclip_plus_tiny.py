"""WeCLIP+'s pseudo labels on the tiny CLIP: GradCAM times the decoder's probability, attention weighed by RFM, PAR.

The decoder is heard from ``rfm_start`` on (published: from the first iteration; one of a few hundred iterations knows
less than the map until late), and its probability is that among the image's own names. Until then the attention is that
of the block which localises best; RFM chooses among all.
"""
seeds = [
    dict(type='GradCam'),
    dict(type='WeighByPrediction', classes='named'),
    dict(type='RfmAffinity', layers=6, warmup_layers=[2], threshold=None),
    dict(type='Par'),
    dict(type='PixelLabels')]
