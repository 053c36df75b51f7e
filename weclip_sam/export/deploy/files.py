"""Exported networks as files. ONNX and torch's programs alike hold the network's card."""
from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from weclip_sam.engine.start.launch import prepare_work_dir

KEY = 'weclip_sam'  # of the metadata of an ONNX file
CARD_FILE = 'weclip_sam.json'  # among the extra files of a program
OPSET = 18  # the oldest that torch writes: most runtimes read it
LIMIT = 2 ** 31 - 2 ** 20  # bytes of an ONNX file
_AXES = dict(image=('batch', None, 'height', 'width'), labels=('batch', 'height', 'width'),
             logits=('batch', None, 'grid_height', 'grid_width'))


def require(*packages: str) -> None:
    """Raise ValueError, with what to install, where one of the packages is missing."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ValueError(f'{" and ".join(missing)} cannot be imported here. Install with: pip install '
                         '"weclip_sam[deploy]"; a file for torch.export (.pt2) needs nothing more')


def onnx_bytes(program: torch.export.ExportedProgram, card: Mapping[str, Any]) -> bytes:
    """The content of an ``.onnx`` file.

    Raises:
        ValueError: a package is missing, or the network is larger than an ONNX file can be.
    """
    require('onnx', 'onnxscript')
    size = sum(each.nbytes for each in (*program.state_dict.values(), *program.constants.values())
               if isinstance(each, torch.Tensor))
    if size > LIMIT:
        raise ValueError(f'the network takes {size / 1e9:.1f} GB, and an ONNX file has at most 2: export it as .pt2')
    made: Any = torch.onnx.export(program, (), input_names=['image'], output_names=['labels', 'logits'],
                                  opset_version=OPSET, dynamo=True, verbose=False)
    made.model.metadata_props[KEY] = json.dumps(card)
    made.model.producer_name, made.model.producer_version = card['made_by'].split()
    proto = made.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, _AXES[value.name], strict=True):
            if name is not None:
                axis.dim_param = name
    del proto.graph.value_info[:]  # in torch's names of the same axes
    return proto.SerializeToString()


def program_bytes(program: torch.export.ExportedProgram, card: Mapping[str, Any]) -> bytes:
    """The content of a ``.pt2`` file, which ``torch.export.load`` reads."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={CARD_FILE: json.dumps(card)})
    return file.getvalue()


FORMS = {'.onnx': onnx_bytes, '.pt2': program_bytes}


def check_place(path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Where an export shall go, looked at before the work.

    Raises:
        ValueError: another suffix than ``.onnx`` and ``.pt2``, a missing package, or a file that is there already.
        OSError: a folder that cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix not in FORMS:
        raise ValueError(f'--out {path}: expected a file that ends in {" or ".join(FORMS)}, got '
                         f'{path.suffix or "no suffix"}')
    if path.suffix == '.onnx':
        require('onnx', 'onnxscript')
    if path.exists() and (path.is_dir() or not overwrite):
        raise ValueError(f'--out {path}: is a folder; give the name of a file in it' if path.is_dir() else
                         f'--out {path}: is there already; give another name, or --overwrite to replace it')
    prepare_work_dir(path.parent, '--out')
    return path
