"""WeCLIP-SAM's pseudo labels on COCO: GradCAM, attention that RFM chose, votes of SAM's masks."""
seeds = [
    dict(type='GradCam'),
    dict(type='RfmAffinity', layers=10, warmup_layers=8, selection='published', threshold=0.7, rounds=3, power=2),
    dict(type='SamVote', background_value=0.6)]
