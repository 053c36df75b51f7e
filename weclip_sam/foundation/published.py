"""Checkpoints that others publish: the facts about each, said once, in ``weights/published.json``.

What timm knows of its own networks (hub repository, licence) is asked of timm, and what open_clip knows of CLIPs of
open_clip: the file adds sizes, digests, and whose hash it is.
"""
from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import timm
from open_clip.constants import HF_SAFE_WEIGHTS_NAME

from weclip_sam.checks import suggest_name
from weclip_sam.choices import CHECKPOINTS
from weclip_sam.commands import command_line
from weclip_sam.io.text import read_json

TABLE = Path(__file__).parent / 'weights' / 'published.json'
HUB_FILE = 'model.safetensors'  # of timm's repositories
SAM = 'sam_'  # begins the names of SAMs; the rest is their architecture
_BESIDE_TENSORS = 1 << 20  # bytes that a safetensors file has at most beside its tensors
# Who says what the SHA-256 is, in short and at length.
WHO = {'publisher': ('published', 'published: it is a part of the URL'),
       'others': ('by others', 'not published, but several others measured the same'),
       'hub': ('by the hub', 'the hub tells it with every download'),
       'nobody': ('none', 'none is published')}


@dataclass(frozen=True)
class Published:
    """A checkpoint that others publish.

    Attributes:
        name: what ``tools/weights.py fetch`` calls it.
        what: in words.
        file: its name in a folder of checkpoints.
        url: where it comes from.
        licence: what its publisher says; None where that is not known here.
        gate: ``'none'``, or what is needed besides a network.
        bytes: size of the file; None where it is not known.
        tensor_bytes: of its tensors, where the size of the file is not known: it is a little larger.
        sha256: 64 hexadecimal digits, or None.
        sha256_by: who says so or, of the hub, will: a key of :data:`WHO`.
        hub: repository and file on the hub, if it is there.
        setting: of a config, which names the file if it lies elsewhere; empty where that depends.
    """

    name: str
    what: str
    file: str
    url: str
    licence: str | None = None
    gate: str = 'not known'
    bytes: int | None = None
    tensor_bytes: int | None = None
    sha256: str | None = None
    sha256_by: str = 'nobody'
    hub: tuple[str, str] | None = None
    setting: str = ''

    @property
    def place(self) -> Path:
        """Where it is looked for first, and where ``fetch`` puts it."""
        return Path(CHECKPOINTS, self.file)

    @property
    def size(self) -> str:
        """In words; empty where nothing is known."""
        known = self.bytes or self.tensor_bytes
        return '' if known is None else f'{known / 1e6:,.0f} MB'

    def size_fits(self, size: int) -> bool:
        """Whether a file of so many bytes may be it."""
        if self.bytes is not None:
            return size == self.bytes
        return self.tensor_bytes is None or 0 <= size - self.tensor_bytes <= _BESIDE_TENSORS

    @property
    def facts(self) -> str:
        """Size and licence in brackets, with a blank before them; empty where nothing is known."""
        told = [*filter(None, [self.size]), *([f'licence {self.licence}'] if self.licence else [])]
        return f' ({", ".join(told)})' if told else ''

    def how_to_get(self, target: Path | None = None) -> str:
        """One sentence: the command that brings it, and what it does by hand.

        Args:
            target: where it is expected, or a folder; None: :attr:`place`.
        """
        path = self.place if target is None else target / self.file if target.is_dir() else target
        folder = () if path.parent == Path(CHECKPOINTS) else ('--to', path.parent)
        line = f'curl -L --create-dirs -o {shlex.quote(str(path))} {self.url}'
        if path.name != self.file:  # fetch would give it another name
            return f'Get {self.file}{self.facts} with: {line}'
        return f'Get {self.file}{self.facts} with: {command_line("weights", "fetch", self.name, *folder)}  or: {line}'


@cache
def published() -> dict[str, Published]:
    """What the table has, by name."""
    known = {}
    for name, facts in read_json(TABLE, 'table of published checkpoints').items():
        if 'url' in facts:
            known[name] = Published(name=name, **facts)
        elif (of_timm := timm_checkpoint(name, facts)) is not None:
            known[name] = of_timm
    return known


def sam_checkpoint(arch: Any) -> Published | None:
    """That of a SAM's architecture (``vit_b``, ``vit_l``, ``vit_h``), None for any other."""
    return published().get(f'{SAM}{arch}') if isinstance(arch, str) else None


def timm_checkpoint(name: str, facts: dict[str, Any] | None = None) -> Published | None:
    """That of a timm network, perhaps with a tag; None where timm names none.

    Args:
        name: ``'resnet101.tv_in1k'``; without a tag timm's default one is meant.
        facts: the table's; None looks there.
    """
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        return None
    full = f'{known.architecture}.{known.tag}' if known.tag else str(known.architecture)
    if facts is None:
        facts = read_json(TABLE, 'table of published checkpoints').get(full, {})
    hub = known.hf_hub_id, known.hf_hub_filename or HUB_FILE
    settings = dict(what=f'timm {full}', file=f'{full}{Path(hub[1]).suffix}', url=_hub_url(*hub), licence=known.license,
                    sha256_by='hub', hub=hub)
    return Published(name=full, **{**settings, **facts})


def tag_config(arch: str, tag: str) -> dict[str, Any]:
    """open_clip's record of a pretrained tag (url, hf_hub, mean, std, quick_gelu); empty when there is none."""
    config = open_clip.get_pretrained_cfg(arch, tag)
    # OpenAI's own weights are listed under the plain name although they are QuickGELU models, and vice versa.
    return dict(config or open_clip.get_pretrained_cfg(arch.removesuffix('-quickgelu'), tag) or {})


def clip_checkpoint(arch: str, tag: str) -> Published | None:
    """That of a CLIP by open_clip's names; None where it knows no such tag.

    OpenAI's own file is taken before its copy on the hub: it is half as large, and its URL has its SHA-256.
    """
    config = tag_config(arch, tag)
    url = config.get('url') or ''
    if known := next((each for each in published().values() if each.url == url), None):
        return known
    name = f'{arch}.{tag}'
    if url:
        digest = url.split('/')[-2]
        told = len(digest) == 64 and set(digest) <= set('0123456789abcdef')
        return Published(name=name, what=f'CLIP {arch}, {tag}', file=url.rsplit('/', 1)[-1], url=url,
                         sha256=digest if told else None, sha256_by='publisher' if told else 'nobody',
                         setting='model.clip.checkpoint')
    if not config.get('hf_hub'):
        return None
    repository, _, file = config['hf_hub'].rpartition('/')
    hub = repository, file or HF_SAFE_WEIGHTS_NAME
    return Published(name=name, what=f'CLIP {arch}, {tag}', file=f'{name}{Path(hub[1]).suffix}', url=_hub_url(*hub),
                     sha256_by='hub', hub=hub, setting='model.clip.checkpoint')


def _hub_url(repository: str, file: str) -> str:
    from huggingface_hub import hf_hub_url
    return hf_hub_url(repository, file)


def find_published(name: str) -> Published:
    """The checkpoint that a command line means.

    Args:
        name: of the table; of a file in it; a SAM's architecture; a timm network with its tag; or a CLIP of open_clip
            as ``ARCH.TAG``.

    Raises:
        ValueError: nobody publishes such a one; names the nearest.
    """
    known = published()
    by_file = {each.file: each for each in known.values()}
    found = known.get(name) or by_file.get(name) or sam_checkpoint(name) or timm_checkpoint(name)
    if found is None and '.' in name:
        found = clip_checkpoint(*name.split('.', 1))
    if found is None:
        raise ValueError(f'no checkpoint is called {name!r}.{suggest_name(name, [*known, *by_file])} Known are '
                         f"{', '.join(known)}; any timm network with weights, as resnet18.a1_in1k; and open_clip's "
                         'CLIPs, as ViT-B-16.laion2b_s34b_b88k')
    return found


def hub_copy(hub: tuple[str, str]) -> Path | None:
    """A file in the hub's local cache, if it is there; asks no network."""
    from huggingface_hub import try_to_load_from_cache
    found = try_to_load_from_cache(*hub)
    return Path(found) if isinstance(found, str) else None
