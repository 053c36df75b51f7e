"""Which checkpoints a config needs or might use, where they are looked for, and whether they are there and right."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from weclip_sam.checking.configs import as_run, find_foundation, foundation_checkpoint
from weclip_sam.checking.findings import Report
from weclip_sam.foundation.clip_card import TINY_WEIGHTS
from weclip_sam.foundation.clip_weights import is_path, tag_places
from weclip_sam.foundation.dino import TINY_CARD
from weclip_sam.foundation.published import (
    SAM,
    WHO,
    Published,
    clip_checkpoint,
    hub_copy,
    published,
    sam_checkpoint,
    tag_config,
    timm_checkpoint,
)
from weclip_sam.foundation.sam_card import WEIGHTS_DIR
from weclip_sam.foundation.timm_weights import timm_places
from weclip_sam.io.config_files import packaged_configs
from weclip_sam.io.identity import sha256_of
from weclip_sam.io.parallel import Progress, no_progress

MISSING, THERE, RIGHT, WRONG = 'missing', 'there', 'right', 'wrong'
OF_THE_PACKAGE = 'comes with the package'
_TINY = dict(FrozenClip=('tiny CLIP', TINY_WEIGHTS), FrozenSam=('tiny SAM', WEIGHTS_DIR / 'tiny_sam.safetensors'),
             FrozenDino=('tiny DINO', TINY_CARD.with_suffix('.safetensors')))
_OWN = dict(prompts='learnt prompts', start='learnt prompts to start from', attributes='sentences of attributes')
_LICENCE = 'Apache-2.0'  # of the package, and of what comes with it


@dataclass(frozen=True)
class Need:
    """A checkpoint that a config names.

    Attributes:
        name: what ``fetch`` calls it, or what it is.
        what: in words.
        places: where it is looked for, first place first.
        wanted_by: where the config, or what else, names it.
        known: what is published about it; None of files that are the user's own.
        needed: whether the config cannot do without it.
        note: what else there is to say.
        hub: repository in whose local copy it is looked for, too; empty if in none.
    """

    name: str
    what: str
    places: tuple[Path, ...]
    wanted_by: tuple[str, ...]
    known: Published | None = None
    needed: bool = True
    note: str = ''
    hub: str = ''

    @property
    def licence(self) -> str:
        """Empty where it is not known."""
        return _LICENCE if self.note == OF_THE_PACKAGE else (self.known.licence or '') if self.known else ''


@dataclass(frozen=True)
class State:
    """What is at the places of a :class:`Need`.

    Attributes:
        verdict: ``missing``; ``there`` (its size is right, as far as one is known); ``right`` (its SHA-256 is, too);
            ``wrong``.
        path: the file; None where it is missing.
        told: what was compared, or what is wrong.
    """

    verdict: str
    path: Path | None = None
    told: str = ''


def needs(config: Mapping[str, Any], optional: bool = True) -> list[Need]:
    """What a config needs, and (``optional``) what options of the tools might make it use.

    Args:
        config: a whole config, as loaded.
        optional: whether to name :func:`optional_needs`, too.

    Returns:
        Each checkpoint once, needed ones first.
    """
    filled = as_run(config, Report())
    found = [_of_node(place, node) for place, node in find_foundation(filled)]
    found += _own_files(filled)
    return merge([*(each for each in found if each is not None), *(optional_needs() if optional else ())])


def optional_needs(settings: bool = False) -> list[Need]:
    """What options of the tools might ask for, and (``settings``) other values of configs: checkpoints of the table."""
    found = []
    for known in published().values():
        if known.name.startswith(SAM):
            found.append(Need(known.name, known.what, (known.place,), (f'--sam {known.name.removeprefix(SAM)}',), known,
                              needed=False))
        elif settings and known.hub is not None:
            found.append(_of_timm(known, (known.setting.rpartition('.')[0],), needed=False))
    return found


def _of_timm(known: Published, wanted_by: tuple[str, ...], needed: bool = True) -> Need:
    return Need(known.name, known.what, tuple(timm_places(known)), wanted_by, known, needed,
                hub=known.hub[0] if known.hub else '')


def shipped_configs() -> list[Path]:
    """The package's own configs, sorted, without the parts that they are made of and the experiments."""
    return [path for path in packaged_configs().values() if path.parent.name != 'compare']


def merge(found: Iterable[Need]) -> list[Need]:
    """Each checkpoint once, with all that want it; what is needed comes first."""
    once: dict[tuple[str, tuple[Path, ...]], Need] = {}
    for each in found:
        before = once.setdefault((each.name, each.places[:1]), each)
        if each.needed or not before.needed:  # what needs it comes first, and says enough
            once[each.name, each.places[:1]] = replace(
                before, needed=each.needed, wanted_by=tuple(dict.fromkeys((*before.wanted_by, *each.wanted_by))))
    return sorted(once.values(), key=lambda each: not each.needed)


def _of_node(place: str, node: Mapping[str, Any]) -> Need | None:
    """What a part with frozen weights needs; None of one with random weights."""
    kind, (arch, checkpoint) = node['type'], foundation_checkpoint(node)
    if checkpoint in (None, 'random'):
        return None
    if checkpoint == 'tiny':
        what, path = _TINY[kind]
        return Need(what, what, (path,), (place,), note=OF_THE_PACKAGE)
    if kind == 'FrozenClip' and not is_path(checkpoint):
        known = clip_checkpoint(arch, checkpoint)
        hub = (tag_config(arch, checkpoint).get('hf_hub') or '').rpartition('/')[0]
        return None if known is None else Need(known.name, known.what, tuple(tag_places(arch, checkpoint)), (place,),
                                               known, hub=hub)
    if kind in ('FrozenDino', 'TimmBackbone') and checkpoint == 'timm':
        known = timm_checkpoint(arch)
        return None if known is None else _of_timm(known, (place,))
    path = Path(checkpoint).expanduser()
    known = next((each for each in _possible(kind, arch) if each is not None and each.file == path.name), None)
    name = str(path) if known is None else known.name
    return Need(name, f'weights of {arch}' if known is None else known.what, (path,), (place,), known)


def _possible(kind: str, arch: str) -> Iterator[Published | None]:
    """What a file for a part may be, if it has the name of something published."""
    if kind == 'FrozenSam':
        yield sam_checkpoint(arch)
    elif kind == 'FrozenClip':
        yield clip_checkpoint(arch, 'openai')
    else:
        yield timm_checkpoint(arch)


def _own_files(config: Mapping[str, Any]) -> list[Need]:
    model = config.get('model') or {}
    found = [Need(str(model[key]), what, (Path(model[key]),), (f'model.{key}',), note=(
        '' if key == 'attributes' else 'an earlier stage writes it: train a PromptTuner'))
        for key, what in _OWN.items() if isinstance(model.get(key), (str, Path))]
    if config.get('load_from'):
        found.append(Need(str(config['load_from']), 'a checkpoint to start from', (Path(config['load_from']),),
                          ('load_from',)))
    return found


def state_of(need: Need, verify: bool = False, progress: Progress = no_progress) -> State:
    """Whether a checkpoint is there and right.

    Args:
        need: which one.
        verify: also read it for its SHA-256, where one is known.
        progress: told of bytes.
    """
    path = next((place for place in need.places if place.is_file()), None)
    if path is None:
        return State(MISSING)
    size, known = path.stat().st_size, need.known
    own = known is not None and (path.name == known.file or (known.hub is not None and path == hub_copy(known.hub)))
    if known is not None and own and not known.size_fits(size):
        least = '' if known.bytes else 'from '
        return State(WRONG, path, f'it has {size:,} bytes, expected {least}{known.bytes or known.tensor_bytes:,}')
    digest, who = expected_digest(path, known if own else None)
    if digest is None:
        sized = known is not None and own and (known.bytes or known.tensor_bytes)
        return State(THERE, path, 'its size is right; no SHA-256 is known to compare with' if sized else
                     '' if known is None else 'nothing is known to compare with')
    if not verify:
        return State(THERE, path, 'its size is right' if known is not None and own else '')
    if (found := sha256_of(path, partial(progress, f'checking {path.name}'))) != digest:
        return State(WRONG, path, f'its SHA-256 is {found}, expected {digest} ({who})')
    return State(RIGHT, path, f'SHA-256 {who}')


def expected_digest(path: Path, known: Published | None) -> tuple[str | None, str]:
    """The SHA-256 that a file must have, and who says so: its publisher, or the hub's cache, which files what it holds
    under it.
    """
    if known is not None and known.sha256:
        return known.sha256, WHO[known.sha256_by][1]
    blob = path.resolve()
    if blob.parent.name == 'blobs' and len(blob.name) == 64:
        return blob.name, "as the hub's cache has it filed"
    return None, ''
