"""WeCLIP on the bundled tiny CLIP; leaf configs add the seed pipeline."""
model = dict(
    type='WeClip',
    clip=dict(type='FrozenClip', arch='tiny', checkpoint='tiny'),
    decoder=dict(type='WeClipDecoder', dim=128, depth=3),
    templates=('a photo of a {}.', 'a picture of a {}', '{}'),
    rfm_start=200, affinity_weight=0.1, affinity_radius=5,
    test=dict(scales=(1.0,), flip=False))
