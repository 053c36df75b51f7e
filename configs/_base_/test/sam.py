"""What --sam does, to be changed; a config that lists this file among its _base_ does it always with

    model = dict(test=dict(refine={{_base_.sam.refine}}))

SAM redraws each component of a prediction where it agrees, then all its masks vote, and a CRF, if there is one, comes
last. Steps, order and settings were chosen on tune (docs/results.md), not on real photos.
"""
sam = dict(
    refine=[dict(type='PromptedSam', min_iou=0.5, weight=0.7), dict(type='VotePrediction', weight=0.7)],
    order=['sam', 'crf'])
