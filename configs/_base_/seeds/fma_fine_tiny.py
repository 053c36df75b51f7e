"""FMA-WSSS's fine seeds on the tiny CLIP: the steps of the coarse seeds.

Published are spread='cam' and threshold 0.5 here; on tune they cost 2 to 3 points.
"""
seeds = [
    dict(type='GradCam', softmax='fma', signed=True),
    dict(type='FmaAffinity', layers=[2], threshold=0.4, rounds=1, power=2, spread='score'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', background_value=1.0, priority=('level_bigger', 'confidence_bigger'))]
