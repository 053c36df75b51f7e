"""CLIP-ES on the tiny CLIP: GradCAM, class-aware attention affinity, dense CRF, confidence cut-off."""
seeds = [
    dict(type='GradCam'),
    dict(type='AttentionAffinity', layers=[2], threshold=0.4),
    dict(type='Crf', min_confidence=0.95)]
