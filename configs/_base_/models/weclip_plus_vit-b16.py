"""WeCLIP+ on CLIP ViT-B/16 and DINOv2 ViT-S/14, 2.93 M trained parameters; leaf configs add the seed pipeline.

As in the public code both networks see ImageNet's mean and std, DINO whole patches of the image (rounded down), its
positions as torch.hub resizes them, and RFM listens to the decoder from the first iteration. Published forms that are
not taken: classes that an image does not have never replace its labels (agreement.replace_classes='any'), and Dice is
averaged over the classes that occur (agreement.dice_classes='all').
"""
_base_ = './weclip_vit-b16.py'
model = dict(
    encoders=dict(dino=dict(type='FrozenDino', arch='vit_small_patch14_dinov2.lvd142m', positions='hub',
                            rounding='down')),
    decoder=dict(_delete_=True, type='BranchDecoder', branches=dict(clip=1, dino=[-1]), dim=256, depth=3, heads=8,
                 mlp_ratio=4.0, dropout=0.1),
    rfm_start=0,
    agreement=dict(dice_weight=1.0, mutual_weight=0.1, replace_start=18_000, replace_confidence=0.75))
# Published: scales 1 and 1.5 at a long side of 512.
tta = dict(scales=(1.0, 1.5), flip=True)
