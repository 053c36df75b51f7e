"""The toy's training and a mask bank on a disk that is full: ``python full_disk.py FOLDER tmpfs|limit``.

``tmpfs``: FOLDER is a small one of its own, and it is filled up. ``limit``: no file of this process may grow any more.
Prints what was found as JSON; errors go to stderr.
"""
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import config as mmengine_config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from weclip_sam.engine import build_runner, find_resumable, friendly_errors, load_config, prepare_work_dir, safe_load
from weclip_sam.mask_bank import MaskBank
from weclip_sam.structures import MaskSet

FOLDER, KIND = Path(sys.argv[1]), sys.argv[2]
FILL = FOLDER / 'fill'
mmengine_config.FormatCode = lambda text, *args, **kwargs: (text, False)  # as in tests/conftest.py


def fill_up():
    if KIND == 'limit':
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return
    for size in (1 << 20, 1 << 12, 1):
        try:
            with open(FILL, 'ab', buffering=0) as file:
                while file.write(bytes(size)) == size:
                    pass
        except OSError:
            pass


def make_room():
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    FILL.unlink(missing_ok=True)


def code_of(action, **options):
    try:
        with friendly_errors(**options):
            action()
    except SystemExit as stop:
        return stop.code
    return 0


class FillUp(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            fill_up()
            for _ in range(9):
                runner.logger.info('too long for the disk ' * 500)


def train(name, hooks=(), **options):
    config = load_config(Path(__file__).with_name('toy_config.py'), {'default_hooks.logger.interval': 1, **options})
    config.work_dir, config.experiment_name = str(FOLDER / name), f'{name}{len(options)}'
    runner = build_runner(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def temporaries():
    return [str(path) for path in FOLDER.rglob('*.tmp')]


def main():
    found = dict(read_only=None)
    if KIND == 'tmpfs':
        for way in ('ro', 'rw'):
            subprocess.run(['mount', '-o', f'remount,{way}', str(FOLDER)], check=True)
            if way == 'ro':
                found['read_only'] = code_of(lambda: prepare_work_dir(FOLDER / 'cut'))
    one = torch.ones(1)
    masks = MaskSet(torch.ones(1, 8, 8, dtype=torch.bool), one.long(), one, one, one.long())
    bank = MaskBank(FOLDER / 'old')
    bank.put('a', masks)
    whole = train('whole')
    found['training'] = code_of(lambda: train('cut', [FillUp()]), log_dir=lambda: str(FOLDER / 'cut'),
                                on_stop=lambda: 'Go on with: python tools/train.py')
    found['resumable'] = find_resumable(FOLDER / 'cut').name
    safe_load(FOLDER / 'cut' / found['resumable'], kind='training')
    fill_up()
    found['header'] = code_of(lambda: MaskBank(FOLDER / 'new'))
    found['new bank'] = [path.name for path in FOLDER.glob('new*')]  # nothing was written: no folder stays
    masks = MaskSet(torch.rand(8, 200, 200) > 0.5, *(each.expand(8) for each in (
        masks.level, masks.predicted_iou, masks.stability, masks.sample_index)))
    found['record'] = code_of(lambda: bank.put('b', masks))
    found['temporaries'] = temporaries()
    make_room()
    bank.put('b', masks)
    found['bank'] = MaskBank(FOLDER / 'old', mode='r').ids()
    MMLogger._instance_dict.clear()
    resumed = train('cut', resume=True, load_from=str(FOLDER / 'cut' / found['resumable']))
    found['equal'] = sorted(whole) == sorted(resumed) and all(torch.equal(whole[key], resumed[key]) for key in whole)
    print(json.dumps(found))


main()
