"""FMA-WSSS on VOC 2012, step 3 of 4: prompts for the segmentation task, from the coarse seeds of step 2. No published
score. Cost: not measured.

    python tools/train.py configs/fma/fma-seg-prompts_vit-b16_17k_voc.py
"""
_base_ = ['../_base_/datasets/voc_prompts.py', '../_base_/methods/fma_seg_prompts_vit-b16.py']
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/fma-coarse_vit-b16_free_voc/seeds/train'))
