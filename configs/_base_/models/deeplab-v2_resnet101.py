"""DeepLabV2 on ResNet-101 at output stride 8, from ImageNet weights (tools/weights.py fetch resnet101.tv_in1k)."""
model = dict(
    type='Segmentor',
    backbone=dict(type='TimmBackbone', name='resnet101.tv_in1k', weights='timm', output_stride=8),
    head=dict(type='DeepLabV2Head', rates=(6, 12, 18, 24)),
    test=dict(scales=(1.0,), flip=False))
# tools/test.py --tta --crf: the usual scales, and the CRF that CLIP-ES tests with.
tta = dict(scales=(1.0, 0.5, 0.75, 1.25, 1.5), flip=True)
crf = dict(iterations=10, gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)
