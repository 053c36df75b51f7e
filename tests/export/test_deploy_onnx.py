"""The ONNX file: ONNX Runtime gives Segmenter's labels, by what the file says of itself alone."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from untrained import write_checkpoint

from weclip_sam.api import Segmenter
from weclip_sam.engine.start.restore import restore_model
from weclip_sam.export.deploy import (
    Deployed,
    InferenceNetwork,
    agreement,
    drawn_pictures,
    export_network,
    network_card,
    onnx_bytes,
    same_checkpoint,
)

onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxscript', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')
pytestmark = pytest.mark.slow  # seconds to export a network

SCRIPT = Path(__file__).parents[2] / 'docs' / 'deploy' / 'use_onnx.py'
CLASSES = ('cat', 'dog', 'sheep')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """The main job's network: CLIP's and SAM's encoders, the fine decoder; photos are read at 200 and seen at 120."""
    folder = tmp_path_factory.mktemp('onnx')
    checkpoint = write_checkpoint(folder / 'iter_1.pth', 'weclip_sam/weclip-sam_tiny_400_shapes.py', {
        'test_dataloader.dataset.reader': dict(_delete_=True, type='FolderReader', data_root='x', max_side=200),
        'test_dataloader.dataset.pipeline': [dict(type='ResizeLong', size=120), dict(type='PackSample')]}, CLASSES)
    model, config, meta = restore_model(checkpoint)
    network = InferenceNetwork(model)
    card = network_card(network, config, meta, checkpoint)
    file = folder / 'model.onnx'
    file.write_bytes(onnx_bytes(export_network(network), card))
    return file, checkpoint, card


@pytest.fixture(scope='module')
def deployed(exported):
    return Deployed(exported[0], threads=1)


@pytest.fixture(scope='module')
def segmenter(exported):
    return Segmenter(exported[1], 'cpu')


def test_photos_get_the_labels_of_segmenter(deployed, segmenter):
    assert deployed.classes == segmenter.classes == ('background', *CLASSES)
    pictures = [*drawn_pictures(), drawn_pictures()[0].resize((60, 40))]
    shares = agreement(deployed, lambda picture: segmenter(picture).labels, pictures)
    assert min(shares) >= 0.999, shares
    assert len(np.unique(deployed(pictures[2]))) > 1


def test_batches_of_several_sizes_are_those_of_the_model(deployed, segmenter):
    network = InferenceNetwork(segmenter.model)
    for count, height, width in ((1, 112, 112), (4, 64, 96), (2, 16, 200), (17, 24, 16)):
        scenes = [picture.resize((width, height)) for picture in drawn_pictures()]
        images = np.stack([np.asarray(scenes[index % 4]).transpose(2, 0, 1) for index in range(count)])
        labels, logits = deployed.run(images)
        with torch.no_grad():
            wanted, wanted_logits = network(torch.from_numpy(images))
        assert labels.dtype == np.uint8 and labels.shape == (count, height, width)
        assert (labels == wanted.numpy()).mean() >= 0.999
        np.testing.assert_allclose(logits, wanted_logits.numpy(), atol=2e-4, rtol=1e-3)
        np.testing.assert_allclose(logits[:1], deployed.run(images[:1])[1], atol=2e-4, rtol=1e-3)


def test_the_file_says_what_it_is(exported, deployed):
    file, _, card = exported
    model = onnx.load(str(file))
    onnx.checker.check_model(model)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == dict(weclip_sam=card)
    assert deployed.card == card and model.producer_name == 'weclip_sam'
    axes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)]
    assert axes == [['batch', 3, 'height', 'width'], ['batch', 'height', 'width'],
                    ['batch', 4, 'grid_height', 'grid_width']]
    assert card['read']['most'] == 200 and card['resize'][0]['most'] == 120


@pytest.mark.parametrize('size, turned', [((333, 250), 1), ((144, 200), 6)])  # 6: EXIF's quarter of a turn
def test_the_script_of_the_documentation_needs_no_torch_and_gives_the_same(exported, segmenter, tmp_path, size, turned):
    photo = tmp_path / 'photo.png'
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    drawn_pictures()[3].resize(size).save(photo, exif=exif)
    code = f'import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path({str(SCRIPT)!r}); ' \
        "assert not {'torch', 'weclip_sam', 'cv2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, '-c', code, str(SCRIPT), str(exported[0]), str(photo),
                           str(tmp_path / 'labels.png')], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = segmenter(photo)
    with Image.open(tmp_path / 'labels.png') as image:
        assert image.mode == 'P' and image.size == (size if turned == 1 else size[::-1])
        labels, palette = np.asarray(image), image.getpalette()
    assert (labels == result.labels).mean() >= 0.999
    assert palette[:12] == [value for colour in exported[2]['palette'] for value in colour]


def test_a_file_of_another_model_is_told_apart(exported, deployed, tmp_path):
    file, _, card = exported
    same_checkpoint(deployed, file, card)
    other = dict(card, classes=['background', 'cow'], checkpoint=dict(name='best.pth', digest='0'))
    with pytest.raises(ValueError, match='model.onnx: was exported from another checkpoint than best.pth: from '
                                         r'iter_1.pth \(classes: cat, dog, sheep\)'):
        same_checkpoint(deployed, file, other)


def strange(path, **metadata):
    """An ONNX file that somebody else wrote: it gives back what it gets."""
    value = onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node('Identity', ['x'], ['y'])], 'g', [value], [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 18)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize('metadata, said', [
    ({}, 'says nothing of classes'), (dict(weclip_sam='{'), 'is damaged'), (dict(weclip_sam='[1]'), 'is damaged'),
    (dict(weclip_sam='{"format": 2}'), 'is damaged')])
def test_a_file_of_another_program_is_refused(tmp_path, metadata, said):
    with pytest.raises(ValueError, match=f'x.onnx: .*{said}.* export the checkpoint anew'):
        Deployed(strange(tmp_path / 'x.onnx', **metadata))


def test_a_card_of_a_later_version_is_refused(tmp_path, exported):
    later = json.dumps(dict(exported[2], format=3))
    with pytest.raises(ValueError, match='has format 3, this version reads 2'):
        Deployed(strange(tmp_path / 'x.onnx', weclip_sam=later))


def test_what_is_no_onnx_file(tmp_path):
    (tmp_path / 'x.onnx').write_bytes(b'no network')
    with pytest.raises(ValueError, match='x.onnx: ONNX Runtime cannot read it'):
        Deployed(tmp_path / 'x.onnx')
    with pytest.raises(FileNotFoundError, match='y.onnx: no such file'):
        Deployed(tmp_path / 'y.onnx')
