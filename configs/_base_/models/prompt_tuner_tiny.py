"""FMA-WSSS's prompt learner; leaf configs choose the task, whose published settings are the defaults.

Eight context vectors fit into the text tower of the bundled tiny CLIP.
"""
model = dict(
    type='PromptTuner', clip=dict(type='FrozenClip', arch='tiny', checkpoint='tiny'),
    n_ctx=8, init_std=0.015)
custom_hooks = [dict(type='SavePromptsHook')]
