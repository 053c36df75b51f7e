"""FMA-WSSS, step 3: prompts for the segmentation task, 17,000 iterations; leaf configs choose data set and seeds."""
_base_ = ['../models/prompt_tuner_vit-b16.py', '../schedules/prompts_17k.py', '../runtime.py']
model = dict(task='segmentation')
default_hooks = dict(checkpoint=dict(save_best='mAP'))
