"""FMA-WSSS's coarse seeds on VOC: signed GradCAM with learnt prompts, attention affinity, SAMS on thinned masks."""
seeds = [
    dict(type='GradCam', softmax='fma', signed=True),
    dict(type='FmaAffinity', layers=8, threshold=0.4, rounds=1, power=2, spread='score'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', extent='masks', background_value=0.6, priority=('level_bigger', 'confidence_bigger'))]
