"""FMA-WSSS on COCO 2014, step 1 of 4: prompts for the classification task, from image labels. No published score. Cost:
not measured.

    python tools/prepare_coco.py data/coco
    python tools/train.py configs/fma/fma-cls-prompts_vit-b16_1800_coco.py
"""
_base_ = ['../_base_/datasets/coco_prompts.py', '../_base_/methods/fma_cls_prompts_vit-b16.py']
