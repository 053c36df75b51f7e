"""SAM ViT-H and its automatic mask generator with the settings of FMA-WSSS."""
mask_generator = dict(
    type='MaskGenerator',
    sam=dict(type='FrozenSam', arch='vit_h', checkpoint='checkpoints/sam_vit_h_4b8939.pth'),
    points_per_side=32, crop_n_layers=1, crop_points_downscale=2, pred_iou_thresh=0.86, stability_thresh=0.92,
    stability_offset=1.0, nms_thresh=0.7, min_region_area=100, level_iou_bonus=(0.0, 0.0, 0.1),
    level_nms_bonus=(0.0, 0.0, 1.0))
