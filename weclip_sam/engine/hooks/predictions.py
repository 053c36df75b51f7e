"""Writing predictions as palette PNGs while a test runs."""
from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.hooks import Hook

from weclip_sam.io.images import write_labels
from weclip_sam.io.names import check_apart, real_path
from weclip_sam.io.new_folders import make_folder
from weclip_sam.registry import HOOKS


def label_path(root: str | os.PathLike, image_id: str) -> Path:
    """``root/image_id.png``; ids may hold folders, but nothing that leaves ``root``."""
    relative = PurePosixPath(image_id)
    if relative.is_absolute() or '..' in relative.parts or not relative.name:
        raise ValueError(f"image id '{image_id}' would be written outside {root}")
    return real_path(root, relative.with_name(relative.name + '.png').as_posix())


@HOOKS.register_module()
class SavePredictionsHook(Hook):
    """After every test batch, ``prediction`` of each sample becomes ``out_dir/<image id>.png``.

    Args:
        out_dir: the folder; made when missing.

    Raises:
        ValueError: before the test, when files of two images would meet, or the folder holds label PNGs of others.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir

    def before_test(self, runner: Any) -> None:
        """Find out now what would overwrite something or be mixed up with it."""
        image_ids = getattr(runner.test_dataloader.dataset, 'image_ids', None)
        if image_ids is None:
            return
        make_folder(self.out_dir)
        check_apart(self.out_dir, image_ids)
        own = {str(label_path(self.out_dir, image_id)) for image_id in image_ids}
        others = sorted(str(path) for path in Path(self.out_dir).rglob('*.png') if str(path) not in own)
        if others:
            raise ValueError(f'--out {self.out_dir}: holds {len(others)} PNGs that are no predictions for these '
                             f'{len(image_ids)} images, for example {others[0]}; they would be mixed up: give another '
                             'folder, or empty this one')

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write one batch."""
        meta = getattr(runner.test_dataloader.dataset, 'metainfo', {}) or {}
        for sample in outputs or []:
            labels = sample.prediction.cpu().numpy()
            write_labels(label_path(self.out_dir, sample.image_id), labels, meta.get('palette'))
