"""COCO JSON, read back by pycocotools and by supervision."""
import contextlib
import io
import json

import numpy as np
import pytest
from export_scene import CLASSES, PALETTE, PHOTOS, confidence, pieces, scenes
from pycocotools.coco import COCO

from weclip_sam.export import export_folder
from weclip_sam.export.coco import FILE
from weclip_sam.offline.results import open_labels


def read(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path / FILE))


def test_pycocotools_finds_every_piece(hard):
    coco = read(export_folder(hard, ['coco'])['coco'])
    assert [coco.cats[label]['name'] for label in sorted(coco.cats)] == list(CLASSES[1:])
    assert [coco.cats[label]['color'] for label in sorted(coco.cats)] == PALETTE[1:]
    assert [image['file_name'] for _, image in sorted(coco.imgs.items())] == [PHOTOS[name] for name in sorted(scenes())]
    for number, name in enumerate(sorted(scenes()), start=1):
        labels, image = scenes()[name], coco.imgs[number]
        assert (image['height'], image['width']) == labels.shape
        found = coco.loadAnns(coco.getAnnIds([number]))
        expected = pieces(labels)
        assert len(found) == len(expected)
        rebuilt = np.zeros_like(labels)
        for each in found:
            mask = coco.annToMask(each).astype(bool)
            assert any(label == each['category_id'] and np.array_equal(mask, piece) for label, piece in expected)
            assert each['area'] == mask.sum() and each['iscrowd'] == 0
            rows, columns = np.nonzero(mask)
            assert each['bbox'] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert each['score'] == pytest.approx(confidence(labels)[mask].mean() / 255, abs=1e-4)
            rebuilt[mask] = each['category_id']
        assert np.array_equal(rebuilt, np.where(labels == 255, 0, labels))  # what is ignored is no class
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))


def test_the_same_labels_give_the_same_bytes(hard):
    first = (export_folder(hard, ['coco'])['coco'] / FILE).read_bytes()
    assert (export_folder(hard, ['coco'])['coco'] / FILE).read_bytes() == first


def test_supervision_reads_it_with_the_photos(hard):
    supervision = pytest.importorskip('supervision')
    place = export_folder(hard, ['coco'], photos='copy')['coco']
    data = supervision.DetectionDataset.from_coco(str(place / 'images'), str(place / FILE),
                                                  force_masks=True)
    assert data.classes == list(CLASSES[1:]) and len(data) == len(scenes())
    for path, image, found in data:
        name = path[len(str(place / 'images')) + 1:].rsplit('.', 1)[0]
        labels = scenes()[name]
        assert image.shape[:2] == labels.shape and len(found) == len(pieces(labels))
        if len(found):
            assert np.array_equal(found.mask.any(0), (labels > 0) & (labels < 255))


def test_scores_of_the_class_where_there_is_no_confidence(labelled):
    folder = labelled({'one': scenes()['in/b']}, sure=False)
    place = export_folder(folder, ['coco'])['coco']
    assert all('score' not in each for each in read(place).anns.values())
    header = json.loads((folder.root / 'predictions.json').read_text())
    header['images'][0]['scores'] = {'cat': 0.75}
    (folder.root / 'predictions.json').write_text(json.dumps(header))
    found = read(export_folder(open_labels(folder.root), ['coco'])['coco']).anns.values()
    assert {each['category_id']: each.get('score') for each in found} == {1: 0.75, 2: None}


def test_nothing_at_all(labelled):
    folder = labelled({'a': np.zeros((3, 4), np.uint8), 'b': np.full((3, 4), 255, np.uint8)})
    told = []
    coco = read(export_folder(folder, ['coco'], told=told.append)['coco'])
    assert not coco.anns and len(coco.imgs) == 2
    assert told == [f'coco: 2 images, 0 regions in {folder.root / "export" / "coco"}; no class in any of them, all is '
                    'background: a valid export of nothing']


def test_small_pieces_are_left_out_and_told(hard):
    told = []
    coco = read(export_folder(hard, ['coco'], min_area=5, told=told.append)['coco'])
    small = sum(mask.sum() < 5 for labels in scenes().values() for _, mask in pieces(labels))
    assert small and all(each['area'] >= 5 for each in coco.anns.values())
    assert f'{small} regions below 5 pixels left out' in told[0]
