"""Whole training iterations as the Runner makes them, and what each of their parts takes."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.floors import moved, trained
from benchmarks.made_up import BEFORE_EYES, OWN_WEIGHTS, Bench, bring_tokens
from benchmarks.measure import Case, Way
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from weclip_sam.engine.start.config import use_amp


def iterations(bench: Bench) -> Iterator[Case]:
    """Batch to the device, seeds, losses, backward, optimizer: in float32 and in bfloat16 (``--amp``)."""
    for name in bench.setting.systems:
        yield Case(f'{name}, training iteration', (
            _iteration(bench, name, 'float32', torch.float32), _iteration(bench, name, 'bfloat16', torch.bfloat16)),
            counts=True)


def _iteration(bench: Bench, name: str, label: str, dtype: torch.dtype) -> Way:
    model, step = training_step(bench, name, low_precision=dtype == torch.bfloat16)
    reads = moved(bench.batch(), model, dtype=dtype) + trained(model)
    return Way(label, step, bench.setting.batch, reads, dtype)


def second_eye(bench: Bench) -> Iterator[Case]:
    """WeCLIP-SAM's iteration (the first version's) with an affinity of a second eye besides all it does: what it costs.

    SAM's encoder at its own size takes minutes a batch on a CPU: there its pass over every crop is measured if
    everything is asked for (``--full``).
    """
    name, eyes = BEFORE_EYES, bench.setting.eyes
    count = bench.setting.batch
    ways = [Way('without', training_step(bench, name)[1], count)]
    ways += [Way(f'{eye} from a bank', training_step(bench, name, eye=eye, banked=True)[1], count)
             for eye, encoder in eyes.items() if encoder['type'] == 'SamEye']
    for eye, encoder in eyes.items():
        costly = encoder['type'] == 'SamEye' and encoder['sam']['arch'] != OWN_WEIGHTS
        if not costly or bench.full or bench.device.type == 'cuda':
            ways.append(Way(f'{eye} live', training_step(bench, name, eye=eye)[1], count))
    yield Case(f'{name}, training iteration, with a second eye', tuple(ways))


def training_step(bench: Bench, name: str, low_precision: bool = False, eye: str | None = None,
                  banked: bool = False, clip: dict[str, Any] | None = None) -> tuple[nn.Module, Callable[[], Any]]:
    """A system's model and a function that makes one iteration of its training, from a batch on the host.

    Args:
        bench, name: of the system.
        low_precision: bfloat16.
        eye: one of the setting's, whose affinity is a further step before the last; None for none.
        banked: whether the samples bring its tokens.
        clip: in place of the config's, if it is given.
    """
    config = bench.config(bench.setting.systems[name])
    config.model.pop('mask_generator', None)
    config.model.clip = clip or config.model.clip
    batch = bench.batch()
    if eye is not None:
        config.model.encoders = {eye: bench.setting.eyes[eye]}
        config.model.seeds.insert(2, dict(type='EyeAffinity', eye=eye))  # behind GradCAM and its affinity
    model = bench.build(config).train()
    if eye is not None and banked:
        bring_tokens(batch, eye, model.encoders[eye], bench.clip.patch_size)
    if low_precision:
        use_amp(config)
    with DefaultScope.overwrite_default_scope('weclip_sam'):
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
    return model, lambda: model.train_step(batch, optimizer)


def parts(bench: Bench) -> Iterator[Case]:
    """The parts of an iteration one by one: encoders, decoder, every seed step."""
    for name in bench.setting.systems:
        model, _ = training_step(bench, name)
        batch, count = bench.batch(), bench.setting.batch
        given = _what_parts_are_given(model, batch)
        ways = [Way('batch to the device', lambda model=model, batch=batch: model.data_preprocessor(batch, True), count,
                    moved(batch) if bench.device.type == 'cuda' else 0.0)]
        for label, part in (('encoders', model.encoders), ('decoder, forward and backward', model.decoder)):
            args, kwargs = given[label]
            ways.append(Way(label, _with_backward(part, args, kwargs), count, moved(args, kwargs, part)))
        for step in model.seeds.steps:
            label = type(step).__name__
            state = given[label]
            reads = moved(state.image_labels, *(getattr(state, need) for need in step.needs if hasattr(state, need)))
            ways.append(Way(label, lambda step=step, state=state: _news(state, step), count, reads))
        yield Case(f'{name}, parts of an iteration', tuple(ways), compares=False)


@torch.no_grad()
def _news(state: Any, step: Any) -> list[Any]:
    """What a seed step leaves that was not there before."""
    after = step(state)
    return [value for name, value in vars(after).items() if name != 'history' and value is not getattr(state, name)]


def _with_backward(part: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Callable[[], Any]:
    """Run a network; what can be differentiated is."""
    def run() -> Any:
        result = part(*args, **kwargs)
        outputs = [value for value in getattr(result, '__dict__', {}).values()
                   if isinstance(value, torch.Tensor) and value.requires_grad]
        if outputs:
            part.zero_grad()
            sum(output.float().mean() for output in outputs).backward()
        return result
    return run


class _Listener:
    """A seed step that keeps the state it was given."""

    def __init__(self, step: Any, given: dict[str, Any]) -> None:
        self._step, self._given = step, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, state: Any) -> Any:
        self._given[type(self._step).__name__] = state
        return self._step(state)


def _what_parts_are_given(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Run the losses of a batch once and write down what encoders, decoder and seed steps are called with."""
    given: dict[str, Any] = {}

    def listen(label: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            given[label] = args, kwargs
        return hook
    hooks = [part.register_forward_pre_hook(listen(label), with_kwargs=True) for label, part in
             (('encoders', model.encoders), ('decoder, forward and backward', model.decoder))]
    steps = model.seeds.steps
    model.seeds.steps = [_Listener(step, given) for step in steps]
    try:
        data = model.data_preprocessor(batch, True)
        model.loss(data['inputs'], data['data_samples'])
    finally:
        model.seeds.steps = steps
        for hook in hooks:
            hook.remove()
    return given


PARTS = dict(iteration=iterations, second_eye=second_eye, stages=parts)
