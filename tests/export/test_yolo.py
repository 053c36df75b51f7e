"""Ultralytics' forms, read back by supervision, and as Ultralytics' documentation says."""
import os

import cv2
import numpy as np
import pytest
import yaml
from export_scene import CLASSES, PHOTOS, pieces, scenes

from weclip_sam.export import export_folder


def polygons(path, shape):
    """Label and mask of each line, filled as Ultralytics does: coordinates cut to whole pixels."""
    found = []
    for line in path.read_text().splitlines():
        number, *shares = line.split()
        points = np.array(shares, np.float32).reshape(-1, 2) * np.float32([shape[1], shape[0]])
        assert len(points) > 2 and (points >= 0).all() and (points < [shape[1], shape[0]]).all()
        mask = cv2.fillPoly(np.zeros(shape, np.uint8), [points.astype(np.int32)], 1)
        found.append((int(number) + 1, mask.astype(bool)))
    return found


def test_polygons_give_the_labels_back(hard):
    place = export_folder(hard, ['yolo-seg'], simplify=0)['yolo-seg']
    for name, labels in scenes().items():
        found = polygons(place / 'labels' / f'{name}.txt', labels.shape)
        assert len(found) == len(pieces(labels))
        for label, piece in pieces(labels):
            assert any(number == label and np.array_equal(mask, piece) for number, mask in found)


def test_the_lists_and_the_yaml(hard):
    place = export_folder(hard, ['yolo-seg'], val_share=0.4)['yolo-seg']
    data = yaml.safe_load((place / 'dataset.yaml').read_text(encoding='utf-8'))
    assert data['names'] == dict(enumerate(CLASSES[1:])) and 'path' not in data
    lists = [(place / data[split]).read_text(encoding='utf-8').splitlines() for split in ('train', 'val')]
    assert len(lists[1]) == 2 and sorted(sum(lists, [])) == sorted(
        f'./images/{name}.{PHOTOS[name].rsplit(".")[-1]}' for name in scenes())
    for image in sum(lists, []):
        stem = image.replace('/images/', '/labels/').rsplit('.', 1)[0]  # what Ultralytics does
        assert (place / image).is_file() and (place / f'{stem}.txt').is_file()


@pytest.mark.parametrize('share, images, count', [(0, 4, 4), (0.5, 1, 1), (0.1, 3, 1), (0.9, 3, 2), (0.5, 4, 2)])
def test_how_many_validate(labelled, share, images, count):
    folder = labelled({f'i{number}': np.zeros((2, 3), np.uint8) for number in range(images)})
    place = export_folder(folder, ['yolo-seg'], val_share=share)['yolo-seg']
    train, val = ((place / f'{split}.txt').read_text().splitlines() for split in ('train', 'val'))
    assert len(val) == count
    assert (train == val) if share == 0 or images == 1 else sorted(train + val) == sorted(set(train + val))


def test_supervision_reads_the_polygons(hard):
    supervision = pytest.importorskip('supervision')
    place = export_folder(hard, ['yolo-seg'], simplify=0, photos='copy')['yolo-seg']
    found = {}
    for folder in ('.', 'in', 'Übung'):  # it does not search folders
        data = supervision.DetectionDataset.from_yolo(
            str(place / 'images' / folder), str(place / 'labels' / folder), str(place / 'dataset.yaml'),
            force_masks=True)
        assert data.classes == list(CLASSES[1:])
        for path, _, detections in data:
            found[str(path)] = detections
    assert len(found) == len(scenes())
    for path, detections in found.items():
        name = os.path.splitext(os.path.relpath(path, place / 'images'))[0]
        labels, expected = scenes()[name], pieces(scenes()[name])
        assert len(detections) == len(expected)
        rebuilt = np.zeros_like(labels)
        for number in range(len(detections)):
            rebuilt[detections.mask[number]] = detections.class_id[number] + 1
        assert np.array_equal(rebuilt, np.where(labels == 255, 0, labels))


def test_semantic_masks(hard):
    place = export_folder(hard, ['yolo-semantic'])['yolo-semantic']
    data = yaml.safe_load((place / 'dataset.yaml').read_text(encoding='utf-8'))
    assert data['masks_dir'] == 'masks' and data['names'] == dict(enumerate(CLASSES))
    for name, labels in scenes().items():
        mask = cv2.imdecode(np.fromfile(place / 'masks' / f'{name}.png', np.uint8), cv2.IMREAD_UNCHANGED)
        assert mask.ndim == 2 and np.array_equal(mask, labels)
    assert (place / (place / 'val.txt').read_text(encoding='utf-8').splitlines()[0]).is_file()


def test_a_folder_called_images(labelled):
    folder = labelled({'images/a': np.zeros((2, 3), np.uint8)})
    with pytest.raises(ValueError, match="lies in a folder called 'images'"):
        export_folder(folder, ['yolo-seg'])
    assert not (folder.root / 'export').exists()
