"""A photo that was replaced or cropped: its masks and labels are made anew, or told of before the work begins."""
import json
import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from weclip_sam.checking.configs import full_check, quick_check
from weclip_sam.io.images import read_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline import photos as offline_photos
from weclip_sam.offline.masks import MaskBankHook, fill_bank, take_photos
from weclip_sam.offline.splits import split_images
from weclip_sam.registry import DATASETS
from weclip_sam.structures import MaskSet


def replace(root):
    """Another photo for p1 with the size of the old one, in pixels; a cropped one for p4; the others have new times."""
    first, last = root / 'images' / 'p1.png', root / 'images' / 'p4.png'
    Image.fromarray(255 - np.array(Image.open(first))).save(first)
    Image.open(last).crop((0, 0, 30, 30)).save(last)
    for name in ('p2', 'p3'):
        os.utime(root / 'images' / f'{name}.png', ns=(0, 10 ** 15))
    shutil.copy(root / 'images' / 'p5.png', root / 'copy.png')
    os.replace(root / 'copy.png', root / 'images' / 'p5.png')


def before_identities(folder):
    """A bank or a seed folder as earlier versions wrote it."""
    for path in folder.glob('photos-*'):
        path.unlink()
    for shard in folder.glob('shard-*.masks'):
        bank = MaskBank(folder, mode='r')
        found = {name: bank.get(name) for name in bank.ids()}
        shard.unlink()
        shard.with_suffix('.index').unlink()
        with MaskBank(folder) as old:
            for name, masks in found.items():
                old.put(name, masks)
    if (header := folder / 'seeds.json').is_file():
        content = json.loads(header.read_text())
        del content['photos']
        header.write_text(json.dumps(content))


def stored(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def masks_of(folder):
    bank = MaskBank(folder, mode='r')
    return {name: bank.get(name).masks for name in bank.ids()}


def one_mask(height, width):
    one, zero = torch.ones(1), torch.zeros(1, dtype=torch.long)
    return MaskSet(torch.ones(1, height, width, dtype=torch.bool), zero, one, one, zero)


def no_reading(monkeypatch):
    monkeypatch.setattr('weclip_sam.io.identity.file_digest', None)


def test_masks_of_replaced_photos_are_made_anew(photos, tmp_path, capsys, run_tool, summary_of, monkeypatch):
    root, config = photos
    bank, fresh = tmp_path / 'bank', tmp_path / 'fresh'
    assert run_tool('make_masks', config, '--out', bank) == 0
    with monkeypatch.context() as patch:
        no_reading(patch)
        assert run_tool('make_masks', config, '--out', bank) == 0  # known by its time, nothing is read
    replace(root)
    assert run_tool('make_masks', config, '--out', bank) == 0
    assert (summary_of(bank)['made'], summary_of(bank)['found']) == (2, 6)
    told = f'{bank}: the photos of 2 of 8 images (p1, p4) are others than when their masks were made; these are made'
    assert told in capsys.readouterr().out
    assert run_tool('make_masks', config, '--out', fresh) == 0
    one, two = masks_of(bank), masks_of(fresh)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    before = stored(bank)
    no_reading(monkeypatch)  # the new times are noted
    assert run_tool('make_masks', config, '--out', bank) == 0 and summary_of(bank)['found'] == 8
    after = stored(bank)
    assert 'made anew' not in capsys.readouterr().out
    of_the_run = {'summary.json': b'', 'environment.json': b''}  # they say when
    assert {**before, **of_the_run} == {**after, **of_the_run}


def test_labels_of_replaced_photos_are_made_anew(photos, tmp_path, capsys, run_tool, summary_of, monkeypatch):
    root, config = photos
    out, fresh = tmp_path / 'out', tmp_path / 'fresh'
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0
    replace(root)
    kept = (out / 'p2.png').stat().st_mtime_ns
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0
    assert (summary_of(out)['made'], summary_of(out)['found']) == (2, 6)
    assert 'the photos of 2 images, for example p1, are others than when their labels' in capsys.readouterr().out
    assert run_tool('make_seeds', config, '--out', fresh, '--scores') == 0
    for i in range(8):
        for name in (f'p{i}.png', f'scores/p{i}.npz'):
            assert (out / name).read_bytes() == (fresh / name).read_bytes()
    assert (out / 'p2.png').stat().st_mtime_ns == kept
    no_reading(monkeypatch)
    assert run_tool('make_seeds', config, '--out', out, '--scores') == 0 and summary_of(out)['found'] == 8


def test_what_was_made_before_identities_were_kept_is_believed(photos, tmp_path, capsys, run_tool, summary_of,
                                                               monkeypatch):
    root, config = photos
    bank, out = tmp_path / 'bank', tmp_path / 'out'
    tools = (('make_masks', bank), ('make_seeds', out))
    for tool, folder in tools:
        assert run_tool(tool, config, '--out', folder) == 0
        before_identities(folder)
    Image.open(root / 'images' / 'p4.png').crop((0, 0, 30, 30)).save(root / 'images' / 'p4.png')
    for tool, folder in tools:
        assert run_tool(tool, config, '--out', folder) == 0
        assert (summary_of(folder)['made'], summary_of(folder)['found']) == (1, 7)  # another size was never its own
    replace(root)
    for tool, folder in tools:
        assert run_tool(tool, config, '--out', folder) == 0
        assert (summary_of(folder)['made'], summary_of(folder)['found']) == (1, 7)  # p1: p4 is the same again
    no_reading(monkeypatch)
    for tool, folder in tools:
        assert run_tool(tool, config, '--out', folder) == 0 and summary_of(folder)['found'] == 8


def test_photos_read_at_another_size_need_other_masks(photos, tmp_path, run_tool, summary_of):
    root, config = photos
    bank, small = tmp_path / 'bank', ['--cfg-options', 'train_dataloader.dataset.reader.max_side=38']
    assert run_tool('make_masks', config, '--out', bank) == 0
    assert run_tool('make_masks', config, '--out', bank, *small) == 0
    assert (summary_of(bank)['made'], summary_of(bank)['found']) == (7, 1)  # p3 is 38 x 38
    assert run_tool('make_masks', config, '--out', bank, *small) == 0 and summary_of(bank)['found'] == 8
    assert max(max(masks.shape[1:]) for masks in masks_of(bank).values()) == 38


def test_a_killed_renewal_goes_on(photos, tmp_path, run_tool, run_slowly, summary_of):
    root, config = photos
    bank = tmp_path / 'bank'
    assert run_tool('make_masks', config, '--out', bank) == 0
    replace(root)
    assert run_slowly('make_masks', config, '--out', bank, '--batch-size', 1, seconds=0, stop_at=4) == 130
    assert MaskBank(bank, mode='r').get('p4').size == (39, 37)  # the old masks are not lost before there are new ones
    assert run_tool('make_masks', config, '--out', bank) == 0
    assert (summary_of(bank)['made'], summary_of(bank)['found']) == (1, 7)
    assert MaskBank(bank, mode='r').get('p4').size == (30, 30)


def test_a_photo_replaced_while_its_masks_are_made_shows_next_time(photos, tmp_path):
    root, config = photos
    dataset = DATASETS.build(split_images(Config.fromfile(config), 'train'))

    class Slow:
        def generate_batch(self, images, pulse=None):
            if not (tmp_path / 'bank').joinpath('done').exists():
                replace(root)
            (tmp_path / 'bank' / 'done').touch()
            return [one_mask(*image.shape[:2]) for image in images]
    with MaskBank(tmp_path / 'bank') as bank:
        fill_bank(bank, Slow(), dataset, batch_size=8)
        assert take_photos(bank, dataset) == ['p1', 'p4']


def with_training(config, root, bank, **train):
    """The config as of a training on what is in a bank."""
    loaded = Config.fromfile(config)
    loaded.mask_bank = str(bank)
    loaded.train_dataloader.dataset.update(train)
    loaded.pop('seed_dataset')
    return loaded


def photo_findings(config, check=quick_check):
    return [(each.level, each.where, each.message) for each in check(config).findings if each.check == 'photos']


def both_findings(config):
    """What the quick check and the full one find, which is the same."""
    quick, full = photo_findings(config), photo_findings(config, lambda config: full_check(config, workers=0))
    assert quick == full
    return quick


def test_the_checks_tell_once_of_masks_of_other_photos(photos, tmp_path, run_tool):
    root, config = photos
    bank = tmp_path / 'bank'
    assert run_tool('make_masks', config, '--out', bank) == 0
    training = with_training(config, root, bank, mask_bank=True)
    training.seed_dataset = {**training.train_dataloader.dataset, 'limit': 3}
    assert both_findings(training) == []
    replace(root)
    (level, where, message), = both_findings(training)
    assert (level, where) == ('error', 'train_dataloader and seed_dataset')
    assert message.startswith(f'{bank}: the photos of 2 of 8 images (p1, p4) are others than when their masks were ma')
    assert 'run tools/make_masks.py with this config' in message
    training.custom_hooks = [dict(type='MaskBankHook')]
    assert both_findings(training)[0][0] == 'warning'  # it makes them anew
    before = stored(bank)
    assert run_tool('make_masks', config, '--out', bank) == 0 and both_findings(training) == []
    assert before.keys() <= stored(bank).keys()


@pytest.mark.parametrize('limit, found', [(0, 1), (1, 2), (10 ** 6, 2)])
def test_the_quick_check_reads_a_few_photos_only(photos, tmp_path, run_tool, monkeypatch, limit, found):
    root, config = photos
    bank = tmp_path / 'bank'
    run_tool('make_masks', config, '--out', bank)
    size = (root / 'images' / 'p1.png').stat().st_size
    replace(root)
    assert (root / 'images' / 'p1.png').stat().st_size == size  # or this test says nothing
    monkeypatch.setattr('weclip_sam.checking.photos.QUICK_BYTES', limit)
    (_, _, message), = photo_findings(with_training(config, root, bank, mask_bank=True))
    assert f'{found} of 8 images' in message and 'p4' in message


def test_a_training_without_notes_still_finds_cropped_photos(photos, tmp_path, run_tool):
    root, config = photos
    bank = tmp_path / 'bank'
    run_tool('make_masks', config, '--out', bank)
    before_identities(bank)
    replace(root)
    (_, _, message), = photo_findings(with_training(config, root, bank, mask_bank=True))
    assert '1 of 8 images (p4)' in message
    assert not list(bank.glob('photos-*'))  # a check writes nothing


class Runner:
    """As much of a runner as the hook needs."""

    def __init__(self, dataset):
        self.model, self.told = torch.nn.Linear(1, 1), []
        self.train_dataloader = type('Loader', (), dict(dataset=dataset))
        self.logger = type('Logger', (), dict(info=self.told.append, warning=self.told.append))


def test_the_hook_makes_them_anew_before_training(photos, tmp_path, run_tool, monkeypatch):
    root, config = photos
    bank = tmp_path / 'bank'
    run_tool('make_masks', config, '--out', bank)
    replace(root)
    training = with_training(config, root, bank, mask_bank=str(bank))
    runner = Runner(DATASETS.build(training.train_dataloader.dataset))
    hook = MaskBankHook(str(bank), training.mask_generator, 'photos')
    hook.before_train(runner)
    assert runner.told == [f'{bank}: the photos of 2 of 8 images (p1, p4) are others than when their masks were made; '
                           'these are made anew', f'SAM masks: 2 made, 6 found in {bank}']
    assert [runner.train_dataloader.dataset[i]['masks'].size for i in (1, 4)] == [(36, 40), (30, 30)]
    no_reading(monkeypatch)
    runner.told.clear()
    hook.before_train(runner)
    assert runner.told == []


def test_a_bank_that_cannot_be_written_is_still_read(photos, tmp_path, run_tool, monkeypatch):
    root, config = photos
    bank = tmp_path / 'bank'
    run_tool('make_masks', config, '--out', bank)
    before_identities(bank)

    def refuse(*args):
        raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr('weclip_sam.io.identity.IdentityNotes.add', refuse)
    dataset = DATASETS.build(split_images(Config.fromfile(config), 'train'))
    with MaskBank(bank) as opened:
        assert len(offline_photos.look_at_bank(opened, dataset, range(8)).to_note) == 8
        assert take_photos(opened, dataset) == []


def test_a_second_stage_is_told_of_labels_of_other_photos(photos, tmp_path, capsys, run_tool):
    root, config = photos
    seeds, bank = tmp_path / 'seeds', tmp_path / 'bank'
    assert run_tool('make_seeds', config, '--out', seeds) == run_tool('make_masks', config, '--out', bank) == 0
    second = with_training(config, root, bank, pixel_labels=str(seeds))
    merging = tmp_path / 'sepl_config.py'
    text = config.read_text()
    merging.write_text(text[:text.index('model = dict(')] + "model = dict(type='SeedMaker', seeds=["
                       "dict(type='SeplMerge')])")
    sepl = [merging, '--out', tmp_path / 'sepl', '--labels', seeds, '--cfg-options', f'mask_bank={bank}']
    assert photo_findings(second) == [] and run_tool('make_seeds', *sepl) == 0
    replace(root)
    (level, where, message), = photo_findings(second, lambda config: full_check(config, workers=0))
    assert (level, where) == ('error', 'train_dataloader')
    assert f'{seeds}: the photos of 2 of 8 images (p1, p4) are others' in message and 'make_seeds.py that' in message
    capsys.readouterr()
    assert run_tool('make_seeds', *sepl) == 2
    assert f'error: mask bank {bank}: the photos of 2 of 8 images (p1, p4)' in capsys.readouterr().err
    assert run_tool('make_masks', config, '--out', bank) == 0 and run_tool('make_seeds', *sepl) == 2
    assert f'error: {seeds}: the photos of 2 of 8 images (p1, p4)' in capsys.readouterr().err
    assert run_tool('make_seeds', config, '--out', seeds) == 0 and run_tool('make_seeds', *sepl) == 0
    assert read_labels(tmp_path / 'sepl' / 'p4.png').shape == (30, 30)
    assert photo_findings(second) == []


def test_images_made_in_memory_have_no_photos(tmp_path):
    dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=dict(type='ShapesReader', num_images=2)))
    assert offline_photos.identify_photos(dataset, {}) is None and offline_photos.changed_photos(
        dataset, {}, offline_photos.PhotoReader()) == []
    with MaskBank(tmp_path) as bank:
        for name in dataset.image_ids:
            bank.put(name, one_mask(112, 112))
        assert take_photos(bank, dataset) == [] and not list(tmp_path.glob('photos-*'))


def test_a_bank_serves_a_copy_of_the_folder_it_was_filled_from(photos, merging, tmp_path, capsys, run_tool, summary_of):
    root, config = photos
    copy, bank, options = tmp_path / 'copy', tmp_path / 'bank', ['--cfg-options']
    assert run_tool('make_masks', config, '--out', bank) == 0
    shutil.copytree(root, copy, copy_function=shutil.copyfile)  # with new times
    options += [f'{loader}_dataloader.dataset.reader.data_root={copy}' for loader in ('train', 'val')]
    training = with_training(config, root, bank, mask_bank=True)
    training.train_dataloader.dataset.reader.data_root = str(copy)
    training.val_dataloader.dataset.reader.data_root = str(copy)

    def seeds(out):
        return run_tool('make_seeds', merging[0], '--out', tmp_path / out, '--labels', merging[1], *options,
                        f'mask_bank={bank}')
    before = stored(bank)
    for check in (quick_check, lambda config: full_check(config, workers=0)):
        assert not [each for each in check(training).findings if each.check in ('photos', 'mask bank')]
    assert len(DATASETS.build(training.train_dataloader.dataset.to_dict() | {'mask_bank': str(bank)})[0]) > 0
    assert seeds('seeds') == 0 and stored(bank) == before  # who reads it does not write
    assert run_tool('make_masks', config, '--out', bank, *options) == 0 and summary_of(bank)['found'] == 8
    assert run_tool('make_masks', config, '--out', bank) == 0 and summary_of(bank)['found'] == 8  # and its own folder
    capsys.readouterr()
    path = copy / 'images' / 'p1.png'
    Image.fromarray(255 - np.array(Image.open(path))).save(path)  # one other photo, and it may be any folder
    refused = f'this bank was made for images in {root}/images, but the images are in {copy}/images'
    assert run_tool('make_masks', config, '--out', bank, *options) == 2 and refused in capsys.readouterr().err
    assert seeds('others') == 2 and refused in capsys.readouterr().err
    assert refused in str([each.message for each in quick_check(training).errors if each.check == 'mask bank'])
    dataset = DATASETS.build(training.train_dataloader.dataset.to_dict() | {'mask_bank': str(bank)})
    assert dataset[0]
    with pytest.raises(ValueError, match='this bank was made for images in'):
        dataset[1]
