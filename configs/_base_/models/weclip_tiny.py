"""WeCLIP on the bundled tiny CLIP; leaf configs add the seed pipeline."""
model = dict(
    type='WeClip',
    clip=dict(type='FrozenClip', arch='tiny', checkpoint='tiny'),
    # The tiny CLIP's last block learnt on patches, too, so its tokens are worth reading (published: all but the last).
    decoder=dict(type='WeClipDecoder', token_layers=[0, 1, 2, 3, 4, 5]),
    templates=('a photo of a {}.', 'a picture of a {}', '{}'),
    rfm_start=200, affinity_weight=0.1, affinity_radius=5,
    test=dict(scales=(1.0,), flip=False))
