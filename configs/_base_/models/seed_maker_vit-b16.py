"""Seeds from CLIP ViT-B/16, nothing trained; leaf configs add the pipeline."""
model = dict(
    type='SeedMaker',
    clip=dict(type='FrozenClip', arch='ViT-B-16-quickgelu', checkpoint='openai'),
    templates=('a clean origami {}.',))
