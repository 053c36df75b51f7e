"""Learnt prompts leave a training run as a file of their own."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook

from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.registry import HOOKS


@HOOKS.register_module()
class SavePromptsHook(Hook):
    """Write the prompts of a :class:`PromptTuner` when training ends, for ``load_prompts`` and the seed pipeline.

    Args:
        name: of the file, in the work dir.
    """

    priority = 'LOW'

    def __init__(self, name: str = 'prompts.safetensors') -> None:
        self.name = name

    def before_train(self, runner: Any) -> None:
        """Fail now rather than after hours."""
        if not hasattr(unwrapped(runner.model), 'save_prompts'):
            raise ValueError(f'SavePromptsHook: {type(unwrapped(runner.model)).__name__} learns no prompts; this hook '
                             'belongs to configs with model.type PromptTuner')

    @master_only
    def after_train(self, runner: Any) -> None:
        """Write the prompts into the work dir (main process)."""
        path = Path(runner.work_dir) / self.name
        unwrapped(runner.model).save_prompts(path)
        runner.logger.info(f'Learnt prompts are in {path}')
