"""Seeds from CLIP ViT-B/16 as ExCEL makes them, nothing trained: CLIP is fed with ImageNet's mean and std.

Its attribute bank is optional and nobody's sentences are bundled: --cfg-options model.attributes=FILE (on COCO the
published number of attributes is model.attribute_centres=224). What a FILE holds: weclip_sam/foundation/attributes.py.
"""
_base_ = './seed_maker_vit-b16.py'
model = dict(clip=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))
