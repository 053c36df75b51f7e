"""The kinds of work that are struck: training, mask making, seed making."""
from __future__ import annotations

import json
import shutil
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from faults.compare import check_whole, digest, same, tensors_of
from faults.runs import ROOT, expect_success, list_names, start

from weclip_sam.engine import find_resumable, safe_load
from weclip_sam.mask_bank import MaskBank

CONFIG = 'configs/weclip_sam/weclip-sam_tiny_400_shapes.py'
SEED_CONFIG = 'configs/clip_es/clip-es_tiny_free_shapes.py'


class Work(ABC):
    """One kind of work: how to start it, how to see it move, and what must hold.

    Args:
        home: folder of everything this kind writes.
        workers: processes that load images.
    """

    name: str

    def __init__(self, home: Path, workers: int = 0) -> None:
        self.home, self.reference, self.out, self.workers = home, home / 'reference', home / 'out', workers
        home.mkdir(parents=True, exist_ok=True)
        self.faults: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}  # of the reference, once it has run

    def fault(self, kind: str, what: str) -> None:
        """Note that something was lost, doubled, ..."""
        self.faults.append((kind, what))
        print(f'  {self.name}: {kind}: {what}', flush=True)

    @abstractmethod
    def command(self, out: Path) -> list[str]:
        """Arguments of python for a run into ``out``; the same for the first start and all later ones."""

    @abstractmethod
    def progress(self, out: Path) -> int:
        """A number that grows while the work itself (not its start-up) goes on."""

    def writing(self, out: Path) -> bool:
        """Whether a file is being written at this moment."""
        return any(name.endswith('.tmp') for folder in (out, out / 'sheets') for name in list_names(folder))

    @abstractmethod
    def share_done(self) -> float:
        """How much of the work is safe, from 0 to 1, as of the last check."""

    @abstractmethod
    def check_after_fault(self) -> None:
        """What a fault may not have done to ``out``."""

    @abstractmethod
    def check_at_end(self) -> None:
        """What a run that ended must have in ``out``."""

    def check_leftovers(self) -> None:
        """Temporary files that nothing will ever remove."""
        for path in sorted(self.out.rglob('*.tmp')):
            self.fault('left over', str(path.relative_to(self.out)))

    def begin_again(self) -> None:
        """The next run starts from nothing."""
        shutil.rmtree(self.out, ignore_errors=True)


class Training(Work):
    """``tools/train.py --resume`` with a mask bank of its own, made before."""

    name = 'training'
    iterations = 40

    def __init__(self, home: Path, workers: int = 0) -> None:
        super().__init__(home, workers)
        self.images = 'train_dataloader.dataset.reader.num_images=12'
        self.bank = home.parent / 'bank'
        log = home.parent / 'bank.log'
        command = [str(ROOT / 'tools/make_masks.py'), CONFIG, '--out', str(self.bank), '--cfg-options', self.images]
        expect_success(start(command, log), log, 'the mask bank')
        self.reached = 0

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/train.py'), CONFIG, '--work-dir', str(out), '--resume', '--cfg-options',
                f'train_cfg.max_iters={self.iterations}', 'train_cfg.val_interval=10', 'param_scheduler.0.end=40',
                'param_scheduler.0.warmup_iters=5', 'model.rfm_start=20', 'train_dataloader.batch_size=2', self.images,
                'val_dataloader.batch_size=2', 'val_dataloader.dataset.reader.num_images=6',
                'default_hooks.checkpoint.interval=5', 'default_hooks.sheets.images=1',
                'default_hooks.logger.interval=1', f'mask_bank={self.bank}', 'seed_dataset.reader.num_images=2',
                f'train_dataloader.num_workers={self.workers}']

    def progress(self, out: Path) -> int:
        return sum(path.read_text(errors='replace').count('Iter(') for path in out.glob('*/*.log'))

    def share_done(self) -> float:
        return self.reached / self.iterations

    def check_after_fault(self) -> None:
        newest = find_resumable(self.out)
        at = int(newest.stem.removeprefix('iter_')) if newest else 0
        if at < self.reached:
            self.fault('lost', f'resumable at {self.reached} before the fault, at {at} after it')
        self.reached = at
        for path in self.out.glob('*.pth'):
            self._read(path)
        pointer = self.out / 'last_checkpoint'
        if pointer.is_file() and not Path(pointer.read_text()).is_file():
            self.fault('lost', f'last_checkpoint names {pointer.read_text()!r}, which is not there')
        for path in (*self.out.glob('*.json'), *self.out.glob('sheets/*.png')):
            check_whole(path, self.fault)

    def _read(self, path: Path) -> Any:
        try:
            return safe_load(path)
        except ValueError as error:
            self.fault('torn', str(error))
            return None

    def check_at_end(self) -> None:
        self.check_after_fault()
        names = [sorted(p.name for p in (*folder.glob('*.pth'), *folder.glob('*.json'), *folder.glob('sheets/*.png'),
                                         *folder.glob('last_checkpoint'))) for folder in (self.reference, self.out)]
        for name in sorted(set(names[0]) - set(names[1])):
            self.fault('lost', f'{name} is missing at the end')
        for name in sorted(set(names[1]) - set(names[0])):
            self.fault('doubled', f'{name} is there, and not in the uninterrupted run')
        for name in sorted(set(names[0]) & set(names[1])):
            pair = [folder / name for folder in (self.reference, self.out)]
            if name.endswith('.pth'):
                contents = [self._read(path) for path in pair]
                keys = ('state_dict', 'optimizer', 'param_schedulers', 'rng_state', 'data_sampler')
                for key in keys:
                    if None not in contents and not same(*(content.get(key) for content in contents)):
                        self.fault('different', f'{key} of {name}')
            elif name.startswith('iou_') and pair[0].read_bytes() != pair[1].read_bytes():
                self.fault('different', name)
        for path in self.out.glob('sheets/*.png'):
            if path.read_bytes() != (self.reference / 'sheets' / path.name).read_bytes():
                self.fault('different', f'sheets/{path.name}')

    def begin_again(self) -> None:
        super().begin_again()
        self.reached = 0


class Masks(Work):
    """``tools/make_masks.py``, four images at a time."""

    name = 'masks'
    images = 40

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/make_masks.py'), CONFIG, '--out', str(out), '--batch-size', '4', '--cfg-options',
                f'train_dataloader.dataset.reader.num_images={self.images}']

    def progress(self, out: Path) -> int:
        return sum(path.stat().st_size for path in out.glob('shard-*.masks'))

    def writing(self, out: Path) -> bool:
        """Records are appended, so there is no temporary file: the moment a shard has grown."""
        size, self._seen = getattr(self, '_seen', None), self.progress(out)
        return super().writing(out) or (size is not None and self._seen > size)

    def share_done(self) -> float:
        return len(self.known) / self.images

    def check_after_fault(self) -> None:
        if not (self.out / 'bank.json').is_file():
            if any(self.out.glob('shard-*')):
                self.fault('lost', 'bank.json is missing beside shards')
            return
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            with MaskBank(self.out, mode='r') as bank, MaskBank(self.reference, mode='r') as whole:
                there = set(bank.ids())
                if lost := self.known - there:
                    self.fault('lost', f'records of {sorted(lost)}')
                self.known = there
                for image_id in there:
                    if not same(tensors_of(bank.get(image_id)), tensors_of(whole.get(image_id))):
                        self.fault('different', f'masks of {image_id}')
        for warning in told:
            self.fault('torn', str(warning.message))

    known: set[str] = set()

    def check_at_end(self) -> None:
        self.check_after_fault()
        records = [[json.loads(line[9:])['id'] for path in sorted(folder.glob('shard-*.masks'))
                    for line in path.read_bytes().split(b'\n')[:-1]] for folder in (self.reference, self.out)]
        for image_id in sorted(set(records[0]) - set(records[1])):
            self.fault('lost', f'no record of {image_id}')
        for image_id in sorted({each for each in records[1] if records[1].count(each) > 1}):
            self.fault('doubled', f'{records[1].count(image_id)} records of {image_id}')
        summary = check_whole(self.out / 'summary.json', self.fault)
        if summary and (summary['in_bank'], summary['failed']) != (self.images, {}):
            self.fault('lost', f'summary.json counts {summary["in_bank"]} images, {len(summary["failed"])} failed')

    def begin_again(self) -> None:
        super().begin_again()
        self.known = set()


class Seeds(Work):
    """``tools/make_seeds.py --scores``."""

    name = 'seeds'
    images = 40

    def command(self, out: Path) -> list[str]:
        return [str(ROOT / 'tools/make_seeds.py'), SEED_CONFIG, '--out', str(out), '--scores', '--workers',
                str(self.workers), '--cfg-options', f'train_dataloader.dataset.reader.num_images={self.images}']

    def progress(self, out: Path) -> int:
        return sum(name.endswith('.png') for name in list_names(out))

    def writing(self, out: Path) -> bool:
        return super().writing(out) or any(name.endswith('.tmp') for name in list_names(out / 'scores'))

    known: set[str] = set()

    def share_done(self) -> float:
        return len(self.known) / (2 * self.images)  # a PNG and the scores of each

    def check_after_fault(self) -> None:
        there = {str(p.relative_to(self.out)) for p in (*self.out.glob('*.png'), *self.out.glob('scores/*.npz'))}
        if lost := self.known - there:
            self.fault('lost', f'{sorted(lost)}')
        self.known = there
        for name in there:
            if not (self.reference / name).is_file():
                self.fault('doubled', f'{name} is there, and not in the uninterrupted run')
            elif digest(self.out / name) != digest(self.reference / name):
                whole = (self.reference / name).read_bytes().startswith((self.out / name).read_bytes())
                self.fault('torn' if whole else 'different', name)
        for path in self.out.glob('*.json'):
            check_whole(path, self.fault)

    def check_at_end(self) -> None:
        self.check_after_fault()
        expected = {str(p.relative_to(self.reference))
                    for p in (*self.reference.glob('*.png'), *self.reference.glob('scores/*.npz'))}
        for name in sorted(expected - self.known):
            self.fault('lost', f'{name} is missing at the end')
        summary = check_whole(self.out / 'summary.json', self.fault)
        if summary and (summary['made'] + summary['found'], summary['failed']) != (self.images, {}):
            self.fault('lost', f'summary.json counts {summary["made"]} made and {summary["found"]} found')

    def begin_again(self) -> None:
        super().begin_again()
        self.known = set()
