"""WeCLIP-SAM on the bundled tiny networks: SAM's own encoder is the second eye, the decoder answers in steps of four
pixels; leaf configs add the seed pipeline."""
_base_ = './weclip_tiny.py'
model = dict(
    encoders=dict(sam=dict(type='SamEye', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))),
    decoder=dict(type='FineDecoder', beside=dict(sam=[-1])),
    rfm_start=100, agreement=dict(dice_weight=0.5))
