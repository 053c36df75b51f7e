"""WeCLIP+'s pseudo labels on the tiny CLIP: WeCLIP's there, with the box threshold that tune chose for it.

GradCAM is not multiplied by the decoder's probability, as WeCLIP+ publishes it (dict(type='WeighByPrediction') behind
GradCam): a decoder of a few hundred iterations knows less than the map, and tune loses eight points by it.
"""
_base_ = './weclip_tiny.py'
