"""FMA-WSSS's fine seeds on VOC: signed GradCAM with learnt prompts, attention affinity, SAMS on thinned masks."""
seeds = [
    dict(type='GradCam', softmax='fma', signed=True),
    dict(type='FmaAffinity', layers=8, threshold=0.5, rounds=1, power=2, spread='cam'),
    dict(type='RockSandWater', threshold=0.3),
    dict(type='SamVote', extent='masks', background_value=0.7, priority=('level_bigger', 'confidence_bigger'))]
