"""FMA-WSSS on the embedded data set, step 3 of 4: prompts for the segmentation task, from the coarse seeds of step 2.

    python tools/train.py configs/fma/fma-seg-prompts_tiny_400_shapes.py
"""
_base_ = ['../_base_/datasets/shapes_prompts.py', '../_base_/models/prompt_tuner_tiny.py',
          '../_base_/schedules/prompts_400.py', '../_base_/runtime.py']
# The tiny CLIP's signed maps are small numbers: with the published weight of 1 the margin loss alone would teach.
model = dict(task='segmentation', activation_weight=300.0)
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/fma-coarse_tiny_free_shapes/seeds/train'))
default_hooks = dict(checkpoint=dict(save_best='mAP'))
