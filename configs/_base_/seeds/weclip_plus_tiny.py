"""WeCLIP+'s pseudo labels on the tiny CLIP: the block that tune chose for RFM and PAR's settings are WeCLIP's there."""
_base_ = './weclip_tiny.py'
seeds = [_base_.seeds[0], dict(type='WeighByPrediction'),
         *[dict(step, threshold=None) if step.type == 'RfmAffinity' else step for step in _base_.seeds[1:]]]
