"""What a comparison lacks before it can run: folders of data and checkpoints, a line each."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from weclip_sam.checking.weights import MISSING, needs, state_of
from weclip_sam.commands import command_line
from weclip_sam.comparison.experiment import Experiment, Stage
from weclip_sam.comparison.listing import state
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.kinds import walk_dicts


def lacking(experiment: Experiment) -> list[str]:
    """A line for each folder of data and each checkpoint that is not there, of stages that have yet to run.

    What an earlier stage of the experiment writes is left out, and so is a config that cannot be read: ``--run`` says
    why.
    """
    wanted: dict[str, dict[str, None]] = {}
    made = [stage.folder.resolve() for run in experiment.runs for stage in run.stages]
    told: dict[tuple[str, ...], list[str]] = {}
    seen: set[tuple[str, str]] = set()  # one seed is as another
    for run in experiment.runs:
        for stage in run.stages:
            if state(stage) == 'finished' or (run.method, stage.name) in seen:
                continue
            seen.add((run.method, stage.name))
            given = stage.arguments[0], *_options(stage)
            if given not in told:
                told[given] = list(_of(given[0], given[1:], made))
            for line in told[given]:
                wanted.setdefault(line, {})[run.method] = None
    everybody = len(experiment.methods)
    return [f'missing: {line} (for {"all methods" if len(whose) == everybody > 1 else ", ".join(whose)})'
            for line, whose in wanted.items()]


def _options(stage: Stage) -> tuple[str, ...]:
    given = list(stage.arguments)
    return tuple(given[given.index('--cfg-options') + 1:]) if '--cfg-options' in given else ()


def _of(path: str, options: tuple[str, ...], made: list[Path]) -> Iterator[str]:
    try:
        config = load_config(path, list(options))
        found = needs(config, optional=False)
    except (ValueError, OSError, KeyError, TypeError):
        return
    roots = {str(node['data_root']): None for place, node in walk_dicts(dict(config.items()))
             if place.endswith('reader') and isinstance(node.get('data_root'), str)}
    for root in roots:
        if not Path(root).expanduser().is_dir():
            yield f'{root}: no such folder of data'
    for need in found:
        if any(place.resolve().is_relative_to(folder) for place in need.places for folder in made):
            continue
        if need.needed and state_of(need).verdict == MISSING:
            fetch = f'; {command_line("weights", "fetch", need.name)}' if need.known is not None else ''
            yield f'{need.places[0]}: {need.what}{fetch}'
