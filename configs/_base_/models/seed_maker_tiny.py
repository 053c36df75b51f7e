"""Seeds from the bundled tiny CLIP, nothing trained; leaf configs add the pipeline."""
model = dict(
    type='SeedMaker',
    clip=dict(type='FrozenClip', arch='tiny', checkpoint='tiny'),
    templates=('a photo of a {}.', 'a picture of a {}', '{}'))
