"""CLIP-ES on VOC: GradCAM, class-aware attention affinity, dense CRF; unsure pixels become 255."""
seeds = [
    dict(type='GradCam'),
    dict(type='AttentionAffinity', layers=8, threshold=0.4, rounds=3, power=2),
    dict(type='Crf', min_confidence=0.95, crf=dict(
        iterations=10, gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4))]
