"""FMA-WSSS on the embedded data set, step 3 of 4: prompts for the segmentation task, from the coarse seeds of step 2.
Minutes on two cores.

    python tools/train.py configs/fma/fma-seg-prompts_tiny_100_shapes.py

Published: random contexts, the name in front, empty background names, weight 1. From random contexts so small a text
tower ends 1 to 2 points below the coarse seeds on tune, so it begins at the prompts of step 1; and its signed maps are
small numbers: with weight 1 the margin loss alone would teach.
"""
_base_ = ['../_base_/datasets/shapes_prompts.py', '../_base_/models/prompt_tuner_tiny.py',
          '../_base_/schedules/prompts_100.py', '../_base_/runtime.py']
model = dict(task='segmentation', start='work_dirs/fma-cls-prompts_tiny_200_shapes/prompts.safetensors', position='end',
             background='nouns', activation_weight=300.0)
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/fma-coarse_tiny_free_shapes/seeds/train'))
default_hooks = dict(checkpoint=dict(save_best='mAP'))
