"""DeepLabV3's head on a ViT-B/16 with ImageNet weights (tools/weights.py fetches them by the network's name)."""
model = dict(
    type='Segmentor',
    backbone=dict(type='TimmBackbone', name='vit_base_patch16_224.augreg_in21k_ft_in1k', weights='timm'),
    head=dict(type='DeepLabV3Head', rates=(3, 6, 9)),
    test=dict(scales=(1.0,), flip=False))
