"""FMA-WSSS on the embedded data set, step 1 of 4: prompts for the classification task, from image labels. Minutes on
two cores.

    python tools/train.py configs/fma/fma-cls-prompts_tiny_200_shapes.py
"""
_base_ = ['../_base_/datasets/shapes_prompts.py', '../_base_/models/prompt_tuner_tiny.py',
          '../_base_/schedules/prompts_200.py', '../_base_/runtime.py']
model = dict(task='classification')
default_hooks = dict(checkpoint=dict(save_best='mAP'))
