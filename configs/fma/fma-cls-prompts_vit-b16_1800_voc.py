"""FMA-WSSS on VOC 2012, step 1 of 4: prompts for the classification task, from image labels. No published score. Cost:
not measured.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/train.py configs/fma/fma-cls-prompts_vit-b16_1800_voc.py
"""
_base_ = ['../_base_/datasets/voc_prompts.py', '../_base_/methods/fma_cls_prompts_vit-b16.py']
