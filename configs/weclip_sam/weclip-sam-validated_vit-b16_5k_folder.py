"""WeCLIP-SAM on your own photographs, some with masks (masks/<image>.png): those score the model, training opens none.
Cost: not measured.

    python tools/train.py configs/weclip_sam/weclip-sam-validated_vit-b16_5k_folder.py --cfg-options \
        data_root=/where/it/is train_split=train.txt val_split=val.txt

val.txt, one image name a line in the same folder, lists photographs with masks; train.txt the others. Without the two
lists the names' hash decides, and every photograph of 'val' needs a mask.
"""
_base_ = ['../_base_/datasets/folder_masks_sam.py', '../_base_/models/weclip_sam_vit-b16.py',
          '../_base_/models/sam_vit-h.py', '../_base_/seeds/weclip_sam.py', '../_base_/schedules/5k.py',
          '../_base_/runtime.py']
model = dict(seeds={{_base_.seeds}}, rfm_start=2_500)
custom_hooks = [dict(type='MaskBankHook')]
