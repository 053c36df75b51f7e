"""Learnt prompts are written when training ends; a model without prompts is told at once."""
import logging
from types import SimpleNamespace

import pytest
from torch import nn

from weclip_sam.registry import HOOKS


class Learner(nn.Module):
    def save_prompts(self, path):
        path.write_text('prompts')


def test_prompts_are_written_into_the_work_dir(tmp_path):
    hook = HOOKS.build(dict(type='SavePromptsHook', name='p.safetensors'))
    runner = SimpleNamespace(model=Learner(), work_dir=str(tmp_path), logger=logging.getLogger('test'))
    hook.before_train(runner)
    hook.after_train(runner)
    assert (tmp_path / 'p.safetensors').read_text() == 'prompts'


def test_other_models_are_refused_before_training(tmp_path):
    hook = HOOKS.build(dict(type='SavePromptsHook'))
    with pytest.raises(ValueError, match='PromptTuner'):
        hook.before_train(SimpleNamespace(model=nn.Linear(1, 1), work_dir=str(tmp_path)))
