"""SAM whenever the model is used: in validation and test, predict.py and Segmenter, what --sam does on request.

SAM redraws each component of the prediction where it agrees, then all its masks vote. The order (a CRF comes last) and
the settings were chosen on tune (README); they were not tuned on real photos. Other steps for --sam alone: a variable
sam = dict(refine=[...], order=['sam', 'crf']).
"""
model = dict(test=dict(refine=[
    dict(type='PromptedSam', min_iou=0.5, weight=0.7),
    dict(type='VotePrediction', weight=0.7)]))
