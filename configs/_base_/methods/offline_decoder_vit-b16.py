"""WeCLIP's decoder on frozen CLIP ViT-B/16, taught by labels made offline; leaf configs choose data set and labels."""
_base_ = ['../models/weclip_vit-b16.py', '../runtime.py']
model = dict(labels='offline')
