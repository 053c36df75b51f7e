"""WeCLIP on CLIP ViT-B/16, 6.0 M trained parameters; leaf configs add the seed pipeline.

As in the public code, CLIP is fed with ImageNet's mean and std; leave them out to use CLIP's own.
"""
model = dict(
    type='WeClip',
    clip=dict(type='FrozenClip', arch='ViT-B-16-quickgelu', checkpoint='openai', mean=(0.485, 0.456, 0.406),
              std=(0.229, 0.224, 0.225)),
    decoder=dict(type='WeClipDecoder', dim=256, depth=3, heads=8, mlp_ratio=4.0, dropout=0.1),
    templates=('a clean origami {}.',),
    rfm_start=15_000, affinity_weight=0.1, affinity_radius=8,
    test=dict(scales=(1.0,), flip=False))
