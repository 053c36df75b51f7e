"""Checkpoints of models that nobody trained, for tests of what is done with a model."""
from pathlib import Path

import torch

from weclip_sam.engine import load_config
from weclip_sam.engine.start.vocabulary import fill_vocabulary, names_of_data
from weclip_sam.io.plain import plain
from weclip_sam.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def write_checkpoint(path, config, options=None, classes=None):
    """Write what a training run of a config would write at its start; the trained part is random, and never zero.

    ``classes`` spares looking at the data set, which may not be here.
    """
    config = load_config(CONFIGS / config, options or {})
    names = names_of_data(config) if classes is None else dict(
        classes=list(classes), prompt_names=list(classes), background_nouns=['ground'])
    fill_vocabulary(config, names)
    settings = plain(config.to_dict(), 'config')
    for key in ('mask_generator', 'prompts', 'attributes'):
        if config.model.get(key) is not None:
            config.model[key] = None
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.05)
        if hasattr(model, 'test_cfg'):  # so that no class is everywhere: on an example none is more likely than another
            squares = torch.rand(2, 3, 7, 7).repeat_interleave(16, 2).repeat_interleave(16, 3)
            bias = next(parameter for name, parameter in model.named_parameters() if name.endswith('classify.bias'))
            bias -= model.eval().tensor(255 * squares).mean((0, 2, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(settings=settings, dataset_meta=dict(names))), path)
    return path
