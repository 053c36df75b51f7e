#!/usr/bin/env python
"""Write a folder that is hard to export in every form, for ``read_back.py``: ``python tests/interop/write.py DIR``."""
import json
import sys
from pathlib import Path

import numpy as np


def write(root: Path) -> Path:
    """Exports of every form below ``root/export``, and what they are to give back beside them; returns ``root``."""
    import export_scene

    from weclip_sam.export import EXPORTS, export_folder
    from weclip_sam.offline.results import open_labels
    folder = open_labels(export_scene.make_folder(root))
    export_folder(folder, list(EXPORTS), root / 'export', photos='copy', simplify=0)
    scenes = export_scene.scenes()
    np.savez(root / 'labels.npz', **{str(number): scenes[name] for number, name in enumerate(sorted(scenes))})
    (root / 'expected.json').write_text(json.dumps(dict(
        classes=export_scene.CLASSES, palette=export_scene.PALETTE, images=sorted(scenes),
        photos=[export_scene.PHOTOS[name] for name in sorted(scenes)],
        pieces=[len(export_scene.pieces(scenes[name])) for name in sorted(scenes)])))
    return root


if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / 'support')]
    write(Path(sys.argv[1]))
