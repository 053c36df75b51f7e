"""FMA-WSSS's coarse seeds on the tiny CLIP: as on VOC, with the block that localises in it."""
seeds = [
    dict(type='GradCam', softmax='fma', signed=True),
    dict(type='FmaAffinity', layers=[2], threshold=0.4, rounds=1, power=2, spread='score'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', extent='masks', background_value=1.0, priority=('level_bigger', 'confidence_bigger'))]
