"""Image, masks and labels keep together through every transform."""
import json
import pickle
import sys

import numpy as np
import pytest
import torch

from weclip_sam.datasets import ImageLabelDataset, Reader, Record, SampleIndex, Vocabulary
from weclip_sam.datasets.frame import Frame
from weclip_sam.datasets.packing import LoadPixelLabels
from weclip_sam.io.identity import identify
from weclip_sam.io.images import write_labels
from weclip_sam.mask_bank import MaskBank
from weclip_sam.registry import TRANSFORMS
from weclip_sam.structures import MaskSet

HEIGHT, WIDTH = 60, 90


def _masks() -> np.ndarray:
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - 25) ** 2 + (cols - 30) ** 2 < 18 ** 2
    box = (rows > 20) & (rows < 50) & (cols > 40) & (cols < 80)
    corner = rows * 2 + cols < 40
    return np.stack([disc, box, corner])


def _coded(masks: np.ndarray) -> np.ndarray:
    code = sum(mask.astype(np.int64) << i for i, mask in enumerate(masks))
    return np.repeat((code * 32).astype(np.uint8)[..., None], 3, axis=2)


class _Bank:
    def get(self, image_id):
        masks = torch.from_numpy(_masks())
        ones = torch.ones(3)
        return MaskSet(masks, torch.tensor([0, 1, 2]), ones, ones, torch.zeros(3, dtype=torch.long))


class _CodedReader(Reader):
    """One image whose colour encodes its masks; the label map is its first mask."""

    def __init__(self):
        super().__init__(Vocabulary.build(['a', 'b', 'c']), [Record('only', (0, 1))])

    def load_image(self, index):
        from PIL import Image
        return Image.fromarray(_coded(_masks()))

    def load_ground_truth(self, index):
        return _masks()[0].astype(np.uint8)

    def check_masks(self):
        pass


def _dataset(*steps, truth=False):
    first = [dict(type='UseGroundTruth')] if truth else []
    return ImageLabelDataset(_CodedReader(), [*first, *steps, dict(type='PackSample')], with_masks=truth,
                             mask_bank=dict(bank=_Bank()))


def _decoded(item, bit: int) -> torch.Tensor:
    code = (item['inputs'][0].float() / 32).round().long()
    return (code >> bit & 1).bool()


@pytest.mark.parametrize('position', range(6))
def test_masks_follow_scale_crop_flip(position):
    # Nearest filtering of the image makes the comparison exact, pixel by pixel.
    dataset = _dataset(dict(type='RandomScale', ratio=(0.5, 2), interpolation='nearest'), dict(type='RandomFlip'),
                       dict(type='RandomCrop', size=64, fill=(0, 0, 0)), truth=True)
    item = dataset[SampleIndex(0, seed=3, position=position)]
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 64, 64)
    for mask, level in zip(sample.mask_set.masks, sample.mask_set.level.tolist(), strict=True):
        # Pillow's nearest may break ties the other way at cell borders.
        assert (mask != _decoded(item, level)).float().mean() < 0.01
        assert not (mask & sample.padding_mask).any()
    inside = ~sample.padding_mask
    assert torch.all(sample.pixel_labels[sample.padding_mask] == 255)
    disagree = (sample.pixel_labels[inside] == 1) != _decoded(item, 0)[inside]
    assert disagree.float().mean() < 0.01


@pytest.mark.parametrize('factor', [0.5, 0.7, 1.3, 2.0])
def test_masks_stay_aligned_with_smooth_resizing(factor):
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - 22.3) ** 2 + (cols - 51.6) ** 2 < 15 ** 2
    step = TRANSFORMS.build(dict(type='RandomScale', ratio=(factor, factor)))
    results = step(dict(image=np.repeat(disc[..., None], 3, axis=2).astype(np.uint8) * 255,
                        frame=Frame.whole(HEIGHT, WIDTH), rng=np.random.default_rng(0)))
    mask = results['frame'].take(torch.from_numpy(disc), False).numpy().astype(float)
    picture = results['image'][..., 0] / 255
    for axis in np.indices(mask.shape):
        shift = (axis * mask).sum() / mask.sum() - (axis * picture).sum() / picture.sum()
        # Nearest cannot do better than a quarter of a pixel at a factor of 0.5.
        assert abs(shift) < 0.3
    assert abs(mask.sum() / picture.sum() - 1) < 0.03


def test_flip_twice_is_nothing():
    frame = Frame.whole(3, 5)
    assert np.array_equal(frame.flip().flip().cols, frame.cols)
    item = _dataset(dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=1.0))[0]
    assert item['data_samples'].flip is False
    assert torch.equal(item['inputs'], torch.from_numpy(_coded(_masks())).permute(2, 0, 1))


def test_flip_mirrors_image_and_masks():
    item = _dataset(dict(type='RandomFlip', prob=1.0))[0]
    assert item['data_samples'].flip is True
    assert torch.equal(item['data_samples'].mask_set.masks, torch.from_numpy(_masks()).flip(-1))
    assert torch.equal(item['inputs'][0], torch.from_numpy(_coded(_masks())[..., 0].copy()).flip(-1))


def test_small_image_is_padded_and_marked():
    item = _dataset(dict(type='RandomCrop', size=(100, 120), fill=(1, 2, 3)))[SampleIndex(0, 1, 5)]
    sample = item['data_samples']
    top, left, bottom, right = sample.content_box
    assert (bottom - top, right - left) == (HEIGHT, WIDTH)
    assert sample.padding_mask.sum() == 100 * 120 - HEIGHT * WIDTH
    assert item['inputs'][:, sample.padding_mask].unique(dim=1).tolist() == [[1], [2], [3]]
    content = item['inputs'][:, top:bottom, left:right]
    assert torch.equal(content, torch.from_numpy(_coded(_masks())).permute(2, 0, 1))
    assert torch.equal(sample.mask_set.masks[:, top:bottom, left:right], torch.from_numpy(_masks()))


@pytest.mark.parametrize('seed', range(8))
def test_masks_as_bits_go_where_their_pixels_go(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    masks, frame = torch.from_numpy(rng.random((5, 21, 35)) > 0.7), Frame.whole(21, 35)
    for change in rng.permutation(['resize', 'pad', 'flip', 'crop'])[:3]:
        height, width = frame.size
        numbers = dict(resize=rng.integers(1, 40, 2), pad=rng.integers(0, 11, 4), flip=(),
                       crop=(height // 3, width // 4, height // 2 + 1, width // 2 + 1))
        frame = getattr(frame, change)(*numbers[change])
    expected = frame.take(masks, False)
    kept = expected.flatten(1).any(1)
    given = MaskSet(masks, torch.arange(5), torch.ones(5), torch.ones(5), torch.zeros(5).long())
    monkeypatch.setattr(sys.modules[Frame.__module__], 'MASK_BYTES', 300)  # two masks at a time
    for masks in (given, given.packed()):
        found = frame.take_masks(masks)
        assert found.width is not None and torch.equal(found.masks, expected[kept])
        assert torch.equal(found.level, torch.arange(5)[kept])
    with pytest.raises(ValueError, match=r'\(21, 35\), got \(35, 21\)'):
        frame.take_masks(given.with_masks(given.masks.transpose(1, 2)))


def test_a_frame_outside_of_everything_has_no_masks():
    frame = Frame.whole(4, 9).pad(5, 0, 0, 0).crop(0, 0, 5, 9)
    assert len(frame.take_masks(MaskSet(torch.ones(2, 4, 9, dtype=torch.bool), *torch.zeros(4, 2)))) == 0


def test_crop_positions_reach_all_corners():
    crop = TRANSFORMS.build(dict(type='RandomCrop', size=4))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        results = crop(dict(image=np.zeros((5, 5, 3), np.uint8), frame=Frame.whole(5, 5), rng=rng))
        seen.add((int(results['frame'].rows[0]), int(results['frame'].cols[0])))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_scale_range_is_covered():
    scale = TRANSFORMS.build(dict(type='RandomScale', ratio=(0.5, 2.0)))
    rng = np.random.default_rng(0)
    heights = [scale(dict(image=np.zeros((40, 20, 3), np.uint8), frame=Frame.whole(40, 20), rng=rng))['image'].shape[0]
               for _ in range(200)]
    assert 20 <= min(heights) < 23 and 77 < max(heights) <= 80


@pytest.mark.parametrize(('step', 'size'), [
    (dict(type='RandomCrop', size=(64, 100)), (64, 100)), (dict(type='ResizeLong', size=45), (30, 45)),
    (dict(type='ResizeLong', size=200, only_shrink=True), (60, 90)), (dict(type='ResizeToMultiple'), (64, 96)),
    (dict(type='ResizeLong', size=1), (1, 1))])
def test_sizes(step, size):
    item = _dataset(step)[0]
    assert item['inputs'].shape[1:] == size == item['data_samples'].img_shape
    assert item['data_samples'].mask_set.size == size


def test_resize_long_draws_from_a_range():
    step = TRANSFORMS.build(dict(type='ResizeLong', size=(288, 290)))
    rng = np.random.default_rng(0)
    widths = {step(dict(image=np.zeros((10, 20, 3), np.uint8), frame=Frame.whole(10, 20), rng=rng))['image'].shape[1]
              for _ in range(30)}
    assert widths == {288, 289, 290}


def test_masks_cropped_away_are_dropped():
    step = dict(type='RandomCrop', size=8)
    counts = {len(_dataset(step)[SampleIndex(0, 0, p)]['data_samples'].mask_set) for p in range(40)}
    assert 0 in counts and counts <= {0, 1, 2, 3}


def test_jitter_changes_colour_only_and_is_repeatable():
    results = dict(image=np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), frame=Frame.whole(8, 8))
    jitter = TRANSFORMS.build(dict(type='ColorJitter', prob=1.0))
    one = jitter({**results, 'rng': np.random.default_rng(5)})
    two = jitter({**results, 'rng': np.random.default_rng(5)})
    assert np.array_equal(one['image'], two['image']) and not np.array_equal(one['image'], results['image'])
    assert np.abs(one['image'].astype(int) - results['image']).mean() < 60
    off = TRANSFORMS.build(dict(type='ColorJitter', prob=0.0))({**results, 'rng': np.random.default_rng(5)})
    assert np.array_equal(off['image'], results['image'])


class _Nothing:
    def get(self, image_id):
        return None


def test_missing_masks_are_an_error_or_none():
    load = TRANSFORMS.build(dict(type='LoadMasks', bank=_Nothing(), missing='none'))
    assert load(dict(image_id='x', ori_shape=(2, 2)))['masks'] is None
    with pytest.raises(ValueError, match="'x'.*make_masks"):
        TRANSFORMS.build(dict(type='LoadMasks', bank=_Nothing()))(dict(image_id='x', ori_shape=(2, 2)))
    with pytest.raises(ValueError, match=r'\(60, 90\).*\(2, 2\)'):
        TRANSFORMS.build(dict(type='LoadMasks', bank=_Bank()))(dict(image_id='x', ori_shape=(2, 2)))


def test_ground_truth_stays_at_the_original_size():
    dataset = ImageLabelDataset(_CodedReader(), [dict(type='ResizeLong', size=32), dict(type='PackSample')],
                                with_masks=True)
    assert dataset[0]['data_samples'].ground_truth.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize('config', [
    dict(type='RandomScale', ratio=(2, 1)), dict(type='RandomCrop', size=0), dict(type='RandomFlip', prob=2),
    dict(type='ResizeLong', size=4, interpolation='cubic'), dict(type='ResizeToMultiple', divisor=0),
    dict(type='ColorJitter', hue=0.9), dict(type='RandomScale', ratio=2), dict(type='RandomScale', ratio=(1,)),
    dict(type='RandomCrop', size=(3, 4, 5)), dict(type='RandomCrop', size=4, fill=(300, 0, 0)),
    dict(type='RandomCrop', size=4, fill=(3, 0)), dict(type='RandomCrop', size=4, fill=0),
    dict(type='LoadMasks', bank='x', missing='generate'), dict(type='LoadMasks', bank='x', others='none')])
def test_bad_settings_are_refused(config):
    with pytest.raises(ValueError, match='expected'):
        TRANSFORMS.build(config)


def test_masks_come_from_a_bank_on_disk(tmp_path):
    load = TRANSFORMS.build(dict(type='LoadMasks', bank=str(tmp_path / 'bank'), missing='none'))
    sample = dict(image_id='only', ori_shape=(HEIGHT, WIDTH))
    assert load(dict(sample))['masks'] is None and not (tmp_path / 'bank').exists()  # reading makes no bank
    with MaskBank(tmp_path / 'bank', fingerprint='generator') as bank:
        bank.put('only', _Bank().get('only'))
    assert torch.equal(load(dict(sample))['masks'].masks, torch.from_numpy(_masks()))
    pickle.loads(pickle.dumps(load))  # goes to workers without its open files
    with pytest.raises(FileNotFoundError, match='make_masks'):
        TRANSFORMS.build(dict(type='LoadMasks', bank=str(tmp_path / 'none')))(dict(sample))
    with pytest.raises(ValueError, match='other'):
        TRANSFORMS.build(dict(type='LoadMasks', bank=str(tmp_path / 'bank'), fingerprint='other'))(dict(sample))


def test_what_sam_refines_is_there_at_the_size_of_the_file():
    steps = [dict(type='LoadMasks', bank=_Bank()), dict(type='ResizeLong', size=30),
             dict(type='PackSample', refine=True)]
    item = ImageLabelDataset(_CodedReader(), steps)[0]
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 20, 30) and sample.mask_set.size == (20, 30)
    assert sample.original.shape == (3, HEIGHT, WIDTH)
    assert torch.equal(sample.original_masks.masks, torch.from_numpy(_masks()))
    given = TRANSFORMS.build(dict(type='LoadMasks', bank=_Nothing(), missing='none'))(
        dict(image_id='x', ori_shape=(2, 2), masks='brought'))
    assert given['masks'] == 'brought'


def test_masks_of_another_photo_are_an_error_or_missing(tmp_path, write_image):
    photo = write_image(tmp_path / 'a.png', (HEIGHT, WIDTH))
    sample = dict(image_id='a', image_path=str(photo), ori_shape=(HEIGHT, WIDTH))
    with MaskBank(tmp_path / 'bank', image_folder=str(tmp_path)) as bank:
        bank.put('a', _Bank().get('only'), photo=identify(photo))

    def load(others, folder=tmp_path, **changed):
        step = dict(type='LoadMasks', bank=str(tmp_path / 'bank'), missing='none', others=others,
                    image_folder=str(folder))
        return TRANSFORMS.build(step)(dict(sample, **changed))['masks']
    for others in ('error', 'missing', None):
        assert len(load(others)) == len(load(others, tmp_path / 'moved')) == len(_masks())
    assert load('missing', ori_shape=(2, 2)) is None and load('missing', image_id='b') is None
    write_image(photo, (HEIGHT, WIDTH), seed=1)
    assert load('missing') is None and load('missing', tmp_path / 'moved') is None
    assert load(None) is not None  # before training the bank's photos are looked at all together
    with pytest.raises(ValueError, match="a.png of 'a' is another one now.*make_masks"):
        load('error')
    with pytest.raises(ValueError, match='made for images in'):
        load('error', tmp_path / 'moved')


def test_pixel_labels_made_offline_follow_the_image(tmp_path):
    write_labels(tmp_path / 'only.png', np.where(_masks()[1], 2, 0))
    steps = [dict(type='LoadPixelLabels', folder=str(tmp_path)), dict(type='RandomFlip', prob=1.0),
             dict(type='RandomCrop', size=(64, 128)), dict(type='PackSample')]
    sample = ImageLabelDataset(_CodedReader(), steps)[0]['data_samples']
    labels, (top, left, bottom, right) = sample.pixel_labels, sample.content_box
    assert labels.dtype == torch.int64 and labels.shape == (64, 128)
    assert torch.equal(labels[top:bottom, left:right] == 2, torch.from_numpy(_masks()[1]).flip(-1))
    assert torch.all(labels[sample.padding_mask] == 255)
    write_labels(tmp_path / 'only.png', np.full((HEIGHT, WIDTH), 4))
    with pytest.raises(ValueError, match=r'only.png: label values \[4\]'):
        ImageLabelDataset(_CodedReader(), steps)[0]
    (tmp_path / 'only.png').unlink()
    with pytest.raises(ValueError, match='only.png: no such label file; every image needs one. .*make_seeds.py'):
        ImageLabelDataset(_CodedReader(), steps)[0]


@pytest.mark.parametrize('given', ['pixel_labels', 'config', 'pipeline'])
@pytest.mark.parametrize(('header', 'message'), [
    (dict(classes=['other']), r'made for 1 classes .other., but the data set has .*: label 1 was .other. and would'),
    (dict(image_folder='/elsewhere'), r'of images in /elsewhere, but .*write "image_folder": .* into .*seeds.json'),
    ([], 'not the header of a seed folder'), (dict(classes=3), 'not the header of a seed folder')])
def test_labels_of_another_data_set_are_refused(tmp_path, write_image, given, header, message):
    write_image(tmp_path / 'only.png', size=(8, 8))
    (tmp_path / 'labels.csv').write_text('image,classes\nonly.png,cup;table\n')
    seeds = tmp_path / 'seeds'
    write_labels(seeds / 'only.png', np.ones((8, 8), int))
    load = dict(type='LoadPixelLabels', folder=str(seeds))
    settings = dict(pixel_labels=dict(pixel_labels=str(seeds)), config=dict(pixel_labels=load),
                    pipeline=dict(pipeline=[load]))[given]

    def build():
        return ImageLabelDataset(dict(type='FolderReader', data_root=str(tmp_path)), **settings)

    right = dict(format='weclip_sam seeds 1', classes=['cup', 'table'], image_folder=str(tmp_path))
    for good in (None, {}, dict(format='of before'), dict(classes=None, image_folder=None), right):
        if good is not None:  # None: label PNGs of unknown origin are believed
            (seeds / 'seeds.json').write_text(json.dumps(good))
        assert build()[0]['pixel_labels'].tolist() == [[1] * 8] * 8
    (seeds / 'seeds.json').write_text(json.dumps({**right, **header} if header else header))
    with pytest.raises(ValueError, match=f'^{seeds}/seeds.json: .*{message}'):
        build()


def test_labels_name_the_first_class_that_differs(tmp_path):
    (tmp_path / 'seeds.json').write_text(json.dumps(dict(classes=['cup', 'table'])))
    for classes, message in ((['cup', 'plate'], "label 2 was 'table' and would teach 'plate'"),
                             (['cup'], "label 2 was 'table' and would teach no class"),
                             (['vase', 'cup', 'table'], "label 1 was 'cup' and would teach 'vase'")):
        with pytest.raises(ValueError, match=message):
            LoadPixelLabels(str(tmp_path), classes)
    LoadPixelLabels(str(tmp_path), ('cup', 'table'))
    LoadPixelLabels(str(tmp_path), ('cup', 'table', 'vase'))  # new ones at the end move no label


def test_ground_truth_is_not_trained_on_by_accident():
    with pytest.raises(ValueError, match='with_masks=True'):
        ImageLabelDataset(_CodedReader(), [dict(type='UseGroundTruth')])[0]


@pytest.mark.parametrize('on_disk', ['\u00e9', 'e\u0301'])
def test_labels_are_found_in_either_unicode_form(tmp_path, on_disk):
    write_labels(tmp_path / f'{on_disk}.png', np.array([[1]]))
    (tmp_path / 'seeds.json').write_text(json.dumps(dict(classes=['pe\u0301'])))
    load = LoadPixelLabels(str(tmp_path), ('p\u00e9',))
    assert load.missing(['\u00e9', 'a']) == ['a']
    assert load(dict(image_id='\u00e9', image_labels=[True], ori_shape=(1, 1)))['pixel_labels'].tolist() == [[1]]
