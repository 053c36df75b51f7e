"""WeCLIP-SAM on CLIP ViT-B/16 with a frozen DINOv2 ViT-S/14 as the second eye; the decoder answers in steps of four
pixels; leaf configs add the seed pipeline."""
_base_ = './weclip_vit-b16.py'
model = dict(
    encoders=dict(dino=dict(type='FrozenDino', arch='vit_small_patch14_dinov2.lvd142m')),
    decoder=dict(type='FineDecoder', beside=dict(dino=[-1])),
    agreement=dict(dice_weight=0.5))
