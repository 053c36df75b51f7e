"""Labels from labels: no CLIP, nothing trained; leaf configs add the pipeline."""
model = dict(type='SeedMaker', clip=None)
