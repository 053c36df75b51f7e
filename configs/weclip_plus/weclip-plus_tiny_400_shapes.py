"""WeCLIP+ on the embedded data set, with the tiny SAM's own encoder as the second eye: no tiny DINO is bundled. Minutes
on two cores. Val: 62.4 (measured; WeCLIP 60.7).

    python tools/train.py configs/weclip_plus/weclip-plus_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_tiny.py', '../_base_/seeds/weclip_plus_tiny.py',
          '../_base_/schedules/400.py', '../_base_/runtime.py']
model = dict(
    seeds={{_base_.seeds}},
    encoders=dict(sam=dict(type='SamEye', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))),
    decoder=dict(_delete_=True, type='BranchDecoder', branches=dict(clip=[0, 1, 2, 3, 4, 5], sam=[-1])),
    agreement=dict(dice_weight=1.0, mutual_weight=0.1, replace_start=240, replace_confidence=0.75))
custom_hooks = [dict(type='SeedEvalHook'), dict(type='ProtocolValHook')]
