"""Cut the golden arrays down to what the repository can carry.

    python tests/golden/make_subset.py ../shared/golden tests/data/golden

Of CLIP-ES's small encoder only the last block is kept, with the stored tokens that enter it: GradCAM, affinity, boxes
and labels are compared from there on, the text tower is whole. Of WeCLIP only what needs no encoder is kept: PAR,
losses, schedule, fusion, scores. Of WeCLIP+ its DINO, losses and schedule are kept. SEPL, FMA-WSSS and CDA are kept as
they are; of ExCEL what follows from its tokens. Values are never changed.
"""
import re
import sys
from pathlib import Path

import numpy as np

KEEP = {
    'clip_es': re.compile(r'(?!sd/visual\.transformer\.).*'),  # and the last block, below
    'weclip': re.compile(r'(par|loss2|optim|fusion|eval)/.*|test/(\d+/(image_uint8|label)|resize_long)'
                         r'|fp32/test/(\d+/msc_pred|msc_hist|msc_miou)'),
    'weclip_plus': re.compile(r'dino/.*|in/image_uint8|(loss2|optim)/.*'),
    'sepl': re.compile('.*'),
    'fma': re.compile('.*'),
    'cda': re.compile('.*'),
    'excel': re.compile(r'tse/.*|(lit/|clean/)?tse2/.*|[A-C]/(tokens|w|sim_before|sim_after|maps_all|attn)'
                        r'|clean/[A-C]/(tokens_headmean|maps_all_headmean|maps_all_channorm)'),
}
BLOCK = re.compile(r'sd/visual\.transformer\.resblocks\.(\d+)\..*')


def wanted(name: str, keys: list[str]) -> list[str]:
    """The keys of one file that are kept."""
    last = max((int(match[1]) for key in keys if (match := BLOCK.fullmatch(key))), default=-1)
    return [key for key in keys if KEEP[name].fullmatch(key)
            or name == 'clip_es' and (match := BLOCK.fullmatch(key)) and int(match[1]) == last]


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in KEEP:
        with np.load(source / f'{name}.npz', allow_pickle=False) as arrays:
            np.savez_compressed(target / f'{name}.npz', **{key: arrays[key] for key in wanted(name, arrays.files)})
        print(f'{name}.npz: {(target / f"{name}.npz").stat().st_size} bytes')


if __name__ == '__main__':
    main(*map(Path, sys.argv[1:3]))
