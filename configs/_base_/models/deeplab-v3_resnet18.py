"""DeepLabV3 on ResNet-18 from random weights: there are no pretrained ones to be had for the embedded scenes."""
model = dict(
    type='Segmentor',
    backbone=dict(type='TimmBackbone', name='resnet18', output_stride=8),
    head=dict(type='DeepLabV3Head', channels=64, rates=(2, 4, 6)),
    test=dict(scales=(1.0,), flip=False))
