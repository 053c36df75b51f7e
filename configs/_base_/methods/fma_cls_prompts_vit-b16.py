"""FMA-WSSS, step 1: prompts for the classification task, 1,800 iterations; leaf configs choose the data set."""
_base_ = ['../models/prompt_tuner_vit-b16.py', '../schedules/prompts_1800.py', '../runtime.py']
model = dict(task='classification')
default_hooks = dict(checkpoint=dict(save_best='mAP'))
