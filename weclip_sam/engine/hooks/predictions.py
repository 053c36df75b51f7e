"""Writing predictions as palette PNGs while a test runs."""
from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.hooks import Hook

from weclip_sam.io.images import write_labels
from weclip_sam.io.names import real_path
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
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write one batch."""
        meta = getattr(runner.test_dataloader.dataset, 'metainfo', {}) or {}
        for sample in outputs or []:
            labels = sample.prediction.cpu().numpy()
            write_labels(label_path(self.out_dir, sample.image_id), labels, meta.get('palette'))
