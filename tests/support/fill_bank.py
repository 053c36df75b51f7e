"""Several processes and one mask bank, in two ways: ``fill_bank.py FOLDER`` fills FOLDER/together and FOLDER/killed.

The processes are forks of this one, which has imported torch but never run it.
"""
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from forking import require_one_thread

from weclip_sam.mask_bank import MaskBank
from weclip_sam.structures import MaskSet

TOGETHER, KILLED = 24, 4000  # images


def some_masks(seed: int = 0, count: int = 3, height: int = 9, width: int = 7) -> MaskSet:
    generator = torch.Generator().manual_seed(seed)
    return MaskSet(torch.rand(count, height, width, generator=generator) > 0.6,
                   torch.randint(0, 3, (count,), generator=generator),
                   torch.rand(count, generator=generator), torch.rand(count, generator=generator),
                   torch.zeros(count, dtype=torch.long))


def fork_to_fill(folder: str, numbers: Sequence[int]) -> int:
    """The process that puts the masks of these numbers, one after the other."""
    require_one_thread()
    if pid := os.fork():
        return pid
    code = 1
    try:
        bank = MaskBank(folder, 'g', 'd')
        for number in numbers:
            bank.put(str(number), some_masks(number))
        code = 0
    finally:
        os._exit(code)


def together(folder: str) -> None:
    """Three processes at a time."""
    pids = [fork_to_fill(folder, range(TOGETHER)[k::3]) for k in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


def killed(folder: str) -> None:
    """Three processes in turn, each killed a while after its first record."""
    for attempt in range(3):
        before = written(folder)
        pid = fork_to_fill(folder, range(KILLED))
        while written(folder) == before and os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(0.001)
        time.sleep(0.02 + 0.04 * attempt)
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def written(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob('shard-*.masks'))


if __name__ == '__main__':
    for fill in (together, killed):
        fill(os.path.join(sys.argv[1], fill.__name__))
