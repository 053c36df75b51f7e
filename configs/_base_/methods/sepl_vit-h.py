"""SEPL on the masks of SAM ViT-H; leaf configs choose the data set and the labels it begins with."""
_base_ = ['../models/seed_maker_labels.py', '../models/sam_vit-h.py', '../seeds/sepl.py']
model = dict(seeds={{_base_.seeds}})
