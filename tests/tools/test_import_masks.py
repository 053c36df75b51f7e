"""make_masks.py --from: masks of segment_anything's amg.py become a bank, and what is wrong with them is named."""
import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.io.images import read_labels, write_labels
from weclip_sam.io.rle import encode_masks
from weclip_sam.mask_bank import MaskBank
from weclip_sam.seeds.sepl import sepl_merge_batch

SIZE = (12, 17)
CONFIG = """
_reader = dict(type='FolderReader', data_root={root!r}, classes=['cat', 'dog'])
train_dataloader = dict(dataset=dict(type='ImageLabelDataset', reader=_reader))
mask_bank = {root!r} + '/bank_train'
mask_dataset = 'photos'
model = dict(type='SeedMaker', seeds=[dict(type='SeplMerge')])
"""


def amg_masks(seed, count=4, size=SIZE):
    """What SamAutomaticMaskGenerator returns, with binary masks."""
    rng = np.random.default_rng(seed)
    blocks = rng.random((count, 3, 3)) < 0.5
    masks = [np.kron(each, np.ones((6, 6)))[:size[0], :size[1]].astype(bool) for each in blocks]
    return [dict(segmentation=mask, area=int(mask.sum()), bbox=[0, 0, 5, 5], predicted_iou=float(rng.random()),
                 point_coords=[[1.5, 2.5]], stability_score=float(rng.random()), crop_box=[0, 0, 17, 12])
            for mask in masks]


def write_json(root, name, masks, uncompressed=False, sa_1b=False):
    """As amg.py --convert-to-rle does."""
    def code(mask):
        if not uncompressed:
            return encode_masks(torch.from_numpy(mask)[None])[0]
        flat = np.concatenate([[False], mask.T.ravel(), [not mask.T.ravel()[-1]]])
        ends = np.flatnonzero(np.diff(flat.astype(int)))
        return np.diff(np.concatenate([[0], ends])).tolist()
    entries = [dict(m, segmentation=dict(size=list(m['segmentation'].shape), counts=code(m['segmentation'])))
               for m in masks]
    root.mkdir(exist_ok=True)
    (root / f'{name}.json').write_text(json.dumps(dict(image=dict(), annotations=entries) if sa_1b else entries))


def write_folder(root, name, masks):
    """As amg.py does."""
    folder = root / name
    folder.mkdir(parents=True)
    lines = ['id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,'
             'crop_box_x0,crop_box_y0,crop_box_w,crop_box_h']
    for i, mask in enumerate(masks):
        Image.fromarray(mask['segmentation'].astype(np.uint8) * 255).save(folder / f'{i}.png')
        numbers = [i, mask['area'], *mask['bbox'], *mask['point_coords'][0], mask['predicted_iou'],
                   mask['stability_score'], *mask['crop_box']]
        lines.append(','.join(map(str, numbers)))
    (folder / 'metadata.csv').write_text('\n'.join(lines))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Four photographs, their config, and a folder of masks: two JSON files, one of PNGs, one of uncompressed RLE."""
    monkeypatch.delenv('WECLIP_SAM_TRACEBACK', raising=False)
    root, masks = tmp_path / 'photos', tmp_path / 'amg'
    (root / 'images').mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.full((*SIZE, 3), 40 * i, np.uint8)).save(root / 'images' / f'p{i}.png')
    (root / 'labels.csv').write_text('image,classes\n' + ''.join(f'p{i}.png,cat;dog\n' for i in range(4)))
    config = tmp_path / 'import_config.py'
    config.write_text(CONFIG.format(root=str(root)))
    write_json(masks, 'p0', amg_masks(0))
    write_json(masks, 'p1', amg_masks(1), sa_1b=True)
    write_folder(masks, 'p2', amg_masks(2))
    write_json(masks, 'p3', amg_masks(3), uncompressed=True)
    return root, config, masks


def test_imported_masks_are_those_of_the_files_and_improve_labels(photos, tmp_path, capsys, run_tool, summary_of):
    root, config, masks = photos
    assert run_tool('make_masks', config, '--from', masks) == 0
    bank = MaskBank(root / 'bank_train', mode='r')
    for i in range(4):
        expected, found = sorted(amg_masks(i), key=lambda m: -m['predicted_iou']), bank.get(f'p{i}', SIZE)
        assert np.array_equal(found.masks.numpy(), np.stack([m['segmentation'] for m in expected]))
        assert found.predicted_iou.tolist() == pytest.approx([m['predicted_iou'] for m in expected])
        assert found.stability.tolist() == pytest.approx([m['stability_score'] for m in expected])
        assert found.level.tolist() == [2] * 4
    summary = summary_of(root / 'bank_train')
    assert (summary['made'], summary['in_bank'], summary['failed']) == (4, 4, {})
    assert summary['imported_from'] == str(masks) and summary['generator'].startswith('imported ')
    assert list(summary['seconds_per_image']) == ['load', 'write'] and summary['wall_seconds_of_all_runs'] > 0
    assert 'masks of 4 images imported' in capsys.readouterr().out
    start = np.zeros(SIZE, int)
    start[3:9, 2:11] = 2
    for i in range(4):
        write_labels(tmp_path / 'start' / f'p{i}.png', start)
    assert run_tool('make_seeds', config, '--labels', tmp_path / 'start', '--out', tmp_path / 'out') == 0
    merged = [read_labels(tmp_path / 'out' / f'p{i}.png') for i in range(4)]
    labels = torch.from_numpy(start).byte()[None]
    assert all(np.array_equal(merged[i], sepl_merge_batch(labels, bank.get(f'p{i}'), 2)[0]) for i in range(4))
    assert not np.array_equal(merged[0], merged[1])


def test_what_is_missing_is_named_and_can_come_later(photos, capsys, run_tool, summary_of):
    root, config, masks = photos
    bank = root / 'bank_train'
    (masks / 'p0.json').unlink()
    table = (masks / 'p2' / 'metadata.csv').read_text()
    (masks / 'p2' / 'metadata.csv').unlink()
    assert run_tool('make_masks', config, '--from', masks) == 1
    failed = summary_of(bank)['failed']
    assert sorted(failed) == ['p0', 'p2'] and f'neither {masks}/p0.json nor {masks}/p0/metadata.csv' in failed['p0']
    assert 'the folder is there, but not finished' in failed['p2'] and 'failed: p0: ' in capsys.readouterr().out
    write_folder(masks, 'p0', amg_masks(0))
    (masks / 'p2' / 'metadata.csv').write_text(table)
    generator = summary_of(bank)['generator']
    assert run_tool('make_masks', config, '--from', masks) == 0
    summary = summary_of(bank)
    assert (summary['made'], summary['found'], summary['in_bank'], summary['generator']) == (2, 2, 4, generator)
    assert summary['wall_seconds_of_all_runs'] > summary['wall_seconds']
    assert len({*MaskBank(bank, mode='r').ids()}) == 4


@pytest.mark.parametrize('kind', ['json', 'png'])
def test_masks_that_changed_are_not_mixed_with_imported_ones(photos, capsys, kind, run_tool, summary_of):
    root, config, masks = photos
    assert run_tool('make_masks', config, '--from', masks) == 0
    if kind == 'json':
        write_json(masks, 'p1', amg_masks(7))
    else:
        for path in (masks / 'p2').iterdir():
            path.unlink()
        (masks / 'p2').rmdir()
        write_folder(masks, 'p2', amg_masks(7))
    before = {path: path.read_bytes() for path in (root / 'bank_train').iterdir()}
    capsys.readouterr()
    assert run_tool('make_masks', config, '--from', masks) == 2
    image = 'p1' if kind == 'json' else 'p2'
    assert f'{masks}: the masks of 1 images, for example {image}, are others' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (root / 'bank_train').iterdir()} == before
    assert run_tool('make_masks', config, '--from', masks, '--out', root / 'other') == 0
    assert summary_of(root / 'other')['generator'] != summary_of(root / 'bank_train')['generator']


def test_a_bank_of_a_generator_takes_no_imported_masks(photos, capsys, run_tool):
    root, config, masks = photos
    MaskBank(root / 'bank_train', 'abc', 'photos', image_folder=str(root / 'images'))
    assert run_tool('make_masks', config, '--from', masks) == 2
    assert "bank.json: this bank is filled by a mask generator ('abc')" in capsys.readouterr().err
    assert run_tool('make_masks', config) == 2
    assert 'the config names no mask generator' in capsys.readouterr().err


def test_a_folder_of_something_else_is_an_error_before_anything_is_made(photos, tmp_path, capsys, run_tool):
    root, config, masks = photos
    assert run_tool('make_masks', config, '--from', tmp_path / 'gone') == 2
    assert f'--from {tmp_path}/gone: no such folder' in capsys.readouterr().err
    assert run_tool('make_masks', config, '--from', root / 'images') == 2
    error = capsys.readouterr().err
    assert 'no masks of any of the 4 images; expected p0.json' in error and 'amg.py' in error
    assert not (root / 'bank_train').exists()


def broken_json(change):
    def apply(masks):
        entries = json.loads((masks / 'p0.json').read_text())
        change(entries)
        (masks / 'p0.json').write_text(json.dumps(entries))
    return apply


def with_table(change):
    def apply(masks):
        path = masks / 'p2' / 'metadata.csv'
        rows = list(csv.reader(path.open()))
        change(rows)
        path.write_text('\n'.join(','.join(row) for row in rows))
    return apply


def grey(masks):
    Image.fromarray(np.arange(12 * 17, dtype=np.uint8).reshape(SIZE)).save(masks / 'p2' / '1.png')


def swapped(masks):
    (masks / 'p2' / '1.png').write_bytes((masks / 'p2' / '0.png').read_bytes())


BROKEN = {
    'half': ('p0', lambda masks: (masks / 'p0.json').write_text('[{"segm'), 'p0.json, line 1: not valid JSON'),
    'number': ('p0', lambda masks: (masks / 'p0.json').write_text('7'), 'p0.json: expected a list of masks'),
    'other size': ('p0', lambda masks: write_json(masks, 'p0', amg_masks(0, size=(12, 16))),
                   'p0.json: mask 0 is 12 x 16 (height x width), but the image, as the config reads it, is 12 x 17'),
    'no code': ('p0', broken_json(lambda e: e[2].update(segmentation=[[1, 2, 3, 4]])), 'mask 2 is no COCO RLE'),
    'size a number': ('p0', broken_json(lambda e: e[2]['segmentation'].update(size=5)), 'mask 2 is no COCO RLE'),
    'entry a text': ('p0', broken_json(lambda e: e.__setitem__(1, 'x')), 'mask 1 is no COCO RLE'),
    'bad code': ('p0', broken_json(lambda e: e[1]['segmentation'].update(counts='04')), 'mask 1: an RLE code does not'),
    'bad counts': ('p0', broken_json(lambda e: e[1]['segmentation'].update(counts=[2 ** 63 - 1, 2 ** 63 - 1, 206])),
                   'mask 1: run lengths must be whole numbers'),
    'no counts': ('p0', broken_json(lambda e: e[1]['segmentation'].update(counts=[])), 'mask 1: an RLE code does not'),
    'score': ('p0', broken_json(lambda e: e[3].update(predicted_iou=None)), 'mask 3: predicted_iou must be a number'),
    'twice': ('p0', lambda masks: write_folder(masks, 'p0', amg_masks(0)), 'p0/metadata.csv; remove one of them'),
    'lost': ('p2', lambda masks: (masks / 'p2' / '3.png').unlink(), 'p2/3.png: is missing, but listed'),
    'torn table': ('p2', with_table(lambda rows: rows.pop()), 'p2/3.png: is there, but not listed'),
    'no table': ('p2', with_table(lambda rows: rows[0].__setitem__(0, 'number')), 'metadata.csv: not the table'),
    'climbing': ('p2', with_table(lambda rows: rows[1].__setitem__(0, '../0')), 'metadata.csv: not the table'),
    'photo': ('p2', grey, 'p2/1.png: no mask: expected 0 and one other value, got 204 values'),
    'of another run': ('p2', swapped, 'p2/1.png: covers '),
    'no image': ('p2', lambda masks: (masks / 'p2' / '1.png').write_bytes(b'x'), 'p2/1.png: not a readable image'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_masks_that_cannot_be_used_are_named_and_the_rest_goes_on(photos, name, run_tool, summary_of):
    root, config, masks = photos
    image, harm, message = BROKEN[name]
    harm(masks)
    assert run_tool('make_masks', config, '--from', masks) == 1
    summary = summary_of(root / 'bank_train')
    assert list(summary['failed']) == [image] and message in summary['failed'][image]
    assert summary['in_bank'] == 3 and image not in MaskBank(root / 'bank_train', mode='r')


def test_scores_may_be_missing_and_images_may_have_no_mask(photos, run_tool):
    root, config, masks = photos
    broken_json(lambda entries: [entry.pop(key) for entry in entries for key in ('predicted_iou', 'stability_score')])(
        masks)
    write_json(masks, 'p1', [])
    (masks / 'p2' / 'metadata.csv').write_text((masks / 'p2' / 'metadata.csv').read_text().splitlines()[0])
    for path in (masks / 'p2').glob('*.png'):
        path.unlink()
    assert run_tool('make_masks', config, '--from', masks) == 0
    bank = MaskBank(root / 'bank_train', mode='r')
    assert bank.get('p0').predicted_iou.tolist() == bank.get('p0').stability.tolist() == [1.0] * 4
    assert np.array_equal(bank.get('p0').masks.numpy(), np.stack([m['segmentation'] for m in amg_masks(0)]))
    assert [(len(bank.get(name)), bank.get(name).size) for name in ('p1', 'p2')] == [(0, SIZE)] * 2
