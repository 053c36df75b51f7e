"""Photos that are replaced between two runs: masks and labels must be those of the photos that are there."""
from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

from faults.campaign import LOSSES, MOMENTS
from faults.compare import digest, same, tensors_of
from faults.runs import ROOT, exit_code, expect_success, kill, start, wait_until
from PIL import Image

from weclip_sam.mask_bank import MaskBank
from weclip_sam.registry import READERS

FOLDER_SEEDS = """
_base_ = ['{root}/configs/_base_/datasets/folder.py', '{root}/configs/_base_/models/seed_maker_tiny.py',
          '{root}/configs/_base_/seeds/clip_es_tiny.py']
model = dict(seeds={{{{_base_.seeds}}}})
data_root = {photos!r}
train_dataloader = dict(dataset=dict(reader=dict(data_root=data_root)))
seed_dataset = dict(reader=dict(data_root=data_root), pipeline=[
    dict(type='ResizeLong', size=112), dict(type='ResizeToMultiple', divisor=8), dict(type='PackSample')])
"""
PHOTOS = 12


def replaced_inputs(home: Path, tries: int, rng: random.Random) -> dict[str, Any]:
    """Replace photos so many times, kill the run that notices, start it again, and compare with fresh runs."""
    began, photos = time.monotonic(), home / 'photos'
    home.mkdir(parents=True, exist_ok=True)
    config, log, faults = home / 'clip-es_tiny_folder.py', home / 'replaced.log', []
    config.write_text(FOLDER_SEEDS.format(root=ROOT, photos=str(photos)))
    (photos / 'images').mkdir(parents=True)
    scenes = READERS.build(dict(type='ShapesReader', num_images=PHOTOS + 2 * tries))
    for number in range(PHOTOS):
        scenes.load_image(number).save(photos / 'images' / f'p{number}.bmp')
    names = [';'.join(scenes.vocabulary.classes[i] for i in record.classes) for record in scenes.records[:PHOTOS]]
    (photos / 'classes.txt').write_text('\n'.join(scenes.vocabulary.classes))
    (photos / 'labels.csv').write_text('image,classes\n' + ''.join(
        f'p{number}.bmp,{name}\n' for number, name in enumerate(names)))

    def commands(out: Path) -> list[list[str]]:
        tiny = str(ROOT / 'configs/weclip_sam/weclip-sam_tiny_400_folder.py')
        return [[str(ROOT / 'tools/make_masks.py'), tiny, '--out', str(out / 'masks'), '--batch-size', '2',
                 '--cfg-options', f'data_root={photos}'],
                [str(ROOT / 'tools/make_seeds.py'), str(config), '--out', str(out / 'seeds')]]

    def run(out: Path) -> None:
        for command in commands(out):
            expect_success(start(command, log, False), log, 'replaced inputs')

    def results(out: Path) -> dict[str, Any]:
        with MaskBank(out / 'masks', mode='r') as bank:
            masks = {image_id: tensors_of(bank.get(image_id)) for image_id in bank.ids()}
        return {**masks, **{path.name: digest(path) for path in (out / 'seeds').glob('*.png')}}

    run(home / 'out')
    survived = 0
    for number in range(tries):
        changed = rng.sample(range(PHOTOS), 4)
        for index, how in zip(changed, ('replaced', 'cropped', 'touched', 'copied'), strict=True):
            _replace(photos / 'images' / f'p{index}.bmp', how, scenes.load_image(PHOTOS + number), rng)
        for command in commands(home / 'out'):
            process = start(command, log, False)
            end = time.monotonic() + rng.random() * 4
            if wait_until(process, lambda end=end: time.monotonic() >= end, 0.01):
                kill(process)
            exit_code(process)
        before = {path.name: path.stat().st_mtime_ns for path in (home / 'out' / 'seeds').glob('*.png')}
        run(home / 'out')
        shutil.rmtree(home / 'fresh', ignore_errors=True)
        run(home / 'fresh')
        one, two = results(home / 'out'), results(home / 'fresh')
        wrong = [('lost', name) for name in set(two) - set(one)] + [('doubled', name) for name in set(one) - set(two)]
        wrong += [('different', name) for name in set(one) & set(two) if not same(one[name], two[name])]
        for index in changed[2:]:  # the same photos as before: not made anew
            name = f'p{index}.png'
            if before.get(name) != (home / 'out' / 'seeds' / name).stat().st_mtime_ns:
                wrong.append(('different', f'{name} was made anew for nothing'))
        faults += wrong
        survived += not wrong
        print(f'  replaced inputs: {number + 1} of {tries}, photos {changed}: {wrong or "well"}', flush=True)
    losses = {kind: sum(each == kind for each, _ in faults) for kind in LOSSES}
    return dict(fault='replaced', tries=tries, moments={**dict.fromkeys(MOMENTS, 0), 'anywhere': tries},
                survived=survived, runs_to_the_end=tries, bit_equal_runs=survived, **losses,
                seconds=time.monotonic() - began, details=[f'{kind}: {what}' for kind, what in faults])


def _replace(path: Path, how: str, other: Any, rng: random.Random) -> None:
    if how == 'replaced':  # a BMP of equal size in pixels has the same size in bytes
        with Image.open(path) as image:
            size = image.size
        other.resize(size).rotate(90 * rng.randrange(4)).save(path)
    elif how == 'cropped':
        with Image.open(path) as image:
            cropped = image.crop((0, 0, max(48, image.width - 8), image.height))
        cropped.save(path)
    elif how == 'touched':
        path.touch()
    else:
        shutil.copy(path, path.with_suffix('.copy'))
        os.replace(path.with_suffix('.copy'), path)
