"""FMA-WSSS's prompt learner; leaf configs choose the task, whose published settings are the defaults."""
model = dict(
    type='PromptTuner', clip=dict(type='FrozenClip', arch='ViT-B-16-quickgelu', checkpoint='openai'),
    n_ctx=16, init_std=0.015)
custom_hooks = [dict(type='SavePromptsHook')]
