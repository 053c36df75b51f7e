"""The Segmenter: a checkpoint becomes a function of images, and says what is wrong with what it is given."""
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from weclip_sam.api import SegmentationResult, Segmenter
from weclip_sam.datasets.shapes.scenes import CLASSES
from weclip_sam.engine import load_config, safe_load
from weclip_sam.engine.start.restore import restore_model
from weclip_sam.foundation.named_sam import named_generator
from weclip_sam.io.identity import identify
from weclip_sam.io.images import ImageReadError, as_rgb
from weclip_sam.mask_bank import MaskBank
from weclip_sam.registry import DATASETS
from weclip_sam.structures import MaskSet


@pytest.fixture(scope='module')
def checkpoint(trained_run):
    return trained_run / 'iter_2.pth'


@pytest.fixture(scope='module')
def segmenter(checkpoint):
    return Segmenter(checkpoint, 'cpu')


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (37, 61, 3), dtype=np.uint8)


def test_it_needs_no_data_set_and_gives_the_models_own_predictions(checkpoint, segmenter, trained_run, monkeypatch):
    config = load_config(next(trained_run.glob('*.py')))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model, _, meta = restore_model(checkpoint)
    model.test_cfg = dict(model.test_cfg or {}, probabilities=True)
    expected = []
    for item in (dataset[index] for index in range(3)):
        data = model.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
        with torch.no_grad():
            expected.append(model(data['inputs'], data['data_samples'], mode='predict')[0])
    pictures = [dataset.load_image(index) for index in range(3)]
    monkeypatch.setattr('weclip_sam.datasets.image_label.ImageLabelDataset.__init__', None)
    results = [segmenter(picture, probabilities=True) for picture in pictures]
    assert meta['classes'] == CLASSES and segmenter.classes == ('background', *CLASSES)
    for result, sample in zip(results, expected, strict=True):
        assert result.labels.dtype == np.uint8 and np.array_equal(result.labels, sample.prediction.numpy())
        assert np.allclose(result.probabilities, sample.probabilities.numpy(), atol=2e-3)  # kept as float16


def test_images_of_any_kind_and_size(segmenter, photo, tmp_path):
    grey = photo[..., 0]
    kinds = [photo, grey, grey[..., None], np.dstack([photo, grey]), grey.astype(np.uint16) * 257, grey > 99,
             Image.fromarray(photo), Image.fromarray(photo).convert('CMYK'), Image.fromarray(photo).convert('P'),
             Image.fromarray(grey), photo[:1, :1], photo[:, :1], photo[:1]]
    results = segmenter(kinds, probabilities=True)
    for kind, result in zip(kinds, results, strict=True):
        size = (kind.height, kind.width) if isinstance(kind, Image.Image) else kind.shape[:2]
        assert result.labels.shape == size and result.image.shape == (*size, 3)
        assert result.probabilities.shape == (11, *size)
        assert np.allclose(result.probabilities.astype(float).sum(0), 1, atol=0.01)
        assert np.array_equal(result.probabilities.argmax(0), result.labels) or result.labels.size > 1000
        assert result.overlay(legend=False, names=False).size == size[::-1]
        assert result.overlay().width >= size[1] and result.overlay().height > size[0]
    assert np.array_equal(results[0].labels, results[6].labels)
    assert np.array_equal(results[1].labels, results[9].labels)
    # A camera that was held upright: the labels are of the picture as people see it.
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(path, exif=exif)
    assert segmenter(path).labels.shape == (61, 37) == segmenter(str(path)).labels.shape


def test_a_batch_changes_nothing(segmenter, photo):
    images = [photo, photo[:20], photo[::-1], photo]
    together = segmenter(images, batch_size=3, probabilities=True)
    for image, result in zip(images, together, strict=True):
        alone = segmenter(image, probabilities=True)
        assert np.abs(alone.probabilities.astype(float) - result.probabilities.astype(float)).max() < 2e-3
    assert np.array_equal(together[0].labels, together[3].labels)
    assert segmenter([]) == []


def test_large_images_are_segmented_smaller(checkpoint, photo):
    big = np.kron(photo, np.ones((4, 4, 1), np.uint8))
    seen = []
    segmenter = Segmenter(checkpoint, 'cpu', max_side=61)
    segmenter.model.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    result = segmenter(big, probabilities=True)
    assert result.labels.shape == (148, 244) and result.probabilities.shape == (11, 148, 244)
    assert seen == [(1, 3, 40, 64)]  # 37 x 61 in whole patches of 8
    sure = segmenter(big, confidence=True).confidence
    assert sure.shape == (148, 244)


def test_multi_scale_and_crf_are_applied(checkpoint, segmenter, photo):
    fused = Segmenter(checkpoint, 'cpu', multi_scale=True, crf=dict(iterations=1))
    assert fused.model.test_cfg['scales'] == (1.0, 1.5) and fused.model.test_cfg['flip']
    assert fused.model.test_cfg['crf'] == dict(iterations=1)
    plain, other = (each(photo, probabilities=True).probabilities for each in (segmenter, fused))
    assert plain.shape == other.shape and not np.array_equal(plain, other)


def test_sam_refines_with_masks_of_a_bank_or_its_own(checkpoint, segmenter, photo, tmp_path):
    bank, path = tmp_path / 'bank', tmp_path / 'new' / 'p.png'
    path.parent.mkdir()
    Image.fromarray(photo).save(path)
    options = {'mask_bank': str(bank), 'mask_generator': named_generator('tiny')}
    asked = dict(sam=dict(refine=[dict(type='VotePrediction')]))
    config = load_config(next(checkpoint.parent.glob('*.py')))
    config.merge_from_dict(options)
    config.dump(tmp_path / 'config.py')
    live = Segmenter(checkpoint, 'cpu', config=tmp_path / 'config.py', **asked)(path, probabilities=True)
    assert live.sam.live and live.sam.masks > 1 and segmenter(path).sam is None
    half = torch.zeros(1, 37, 61, dtype=torch.bool)
    half[:, :, :20] = True
    one = torch.ones(1)
    with MaskBank(bank) as made:
        made.put('p', MaskSet(half, one.long(), one, one, 0 * one.long()), photo=identify(path))
    segment = Segmenter(checkpoint, 'cpu', config=tmp_path / 'config.py', **asked)
    found = segment(path, probabilities=True)
    assert found.sam[:2] == (1, False)
    assert found.probabilities[:, :, :20].astype(float).std((1, 2)).max() < 1e-4
    assert segment(photo).sam.live  # a picture without a file is no photo of the bank
    named = Segmenter(checkpoint, 'cpu', sam='tiny')(path)
    assert named.sam.live and named.labels.shape == (37, 61)
    with pytest.raises(ValueError, match='mask_generator is missing at the top of the config'):
        Segmenter(checkpoint, 'cpu', sam=True)


def test_what_a_checkpoint_names_for_sam_is_not_imported(checkpoint, tmp_path):
    content = dict(safe_load(checkpoint, kind='weights'))
    evil = dict(content['meta']['settings'], sam=dict(refine=[dict(type='subprocess.Popen')]))
    content['meta'] = dict(content['meta'], settings=evil)
    torch.save(content, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='refused.*subprocess.Popen.*Nothing was executed'):
        Segmenter(tmp_path / 'evil.pth', 'cpu', sam='tiny')


def test_threads_that_share_it_get_what_each_asked_for(segmenter, photo, monkeypatch):
    settings, name, inside = segmenter.model.test_cfg, segmenter.classes[1], threading.Event()
    predict = segmenter.model.predict

    def slowly(*args):
        inside.set()
        time.sleep(0.05)  # the other thread comes meanwhile
        return predict(*args)
    monkeypatch.setattr(segmenter.model, 'predict', slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(segmenter, photo, names=[name], probabilities=True)
        inside.wait(10)
        second = pool.submit(segmenter, photo)
        assert not first.result().probabilities[2:].any() and second.result().probabilities is None
    assert segmenter.model.test_cfg is settings
    monkeypatch.undo()
    copy = pickle.loads(pickle.dumps(segmenter))
    assert np.array_equal(copy(photo).labels, second.result().labels)


def test_a_result_that_does_not_fit_into_memory_is_that_image_s_alone(segmenter, photo, monkeypatch):
    def as_half(probabilities, size):
        return np.empty((1 << 40, *size)) if size[0] == 20 else np.zeros((11, *size))
    monkeypatch.setattr('weclip_sam.api.as_half', as_half)
    outcome = dict(segmenter.stream([photo, photo[:20], photo], probabilities=True))
    assert isinstance(outcome[0], SegmentationResult) and isinstance(outcome[2], SegmentationResult)
    assert isinstance(outcome[1], MemoryError) and str(outcome[1]).startswith('image 1: ')


def test_bad_images_are_named_and_the_rest_goes_on(segmenter, photo, tmp_path):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'\x89PNG\r\n\x1a\n and then nothing')
    images = [photo, tmp_path / 'none.jpg', broken, photo.astype(float), torch.zeros(3, 8, 8).numpy(), 7,
              photo[:0], photo]
    outcome = dict(segmenter.stream(images))
    assert sorted(outcome) == list(range(8))
    assert isinstance(outcome[0], SegmentationResult) and isinstance(outcome[7], SegmentationResult)
    for index, text in {1: 'none.jpg: no such file', 2: 'broken.png: not a readable image',
                        3: 'image 3: expected uint8', 4: 'permute(1, 2, 0)', 5: 'got int',
                        6: 'at least one pixel'}.items():
        assert isinstance(outcome[index], ImageReadError) and text in str(outcome[index])
    with pytest.raises(ImageReadError, match='none.jpg'):
        segmenter(images[:2])
    with pytest.raises(ValueError, match='batch_size'):
        list(segmenter.stream([photo], batch_size=0))


def test_a_fault_of_one_image_in_a_batch_is_its_own(segmenter, photo, monkeypatch):
    predict = segmenter._predict

    def out_of_memory(prepared, *options):
        if any(one.name == 'image 1' for one in prepared):
            raise RuntimeError('out of memory')
        return predict(prepared, *options)
    monkeypatch.setattr(segmenter, '_predict', out_of_memory)
    outcome = dict(segmenter.stream([photo] * 3))
    assert isinstance(outcome[1], RuntimeError) and str(outcome[1]) == 'image 1: out of memory'
    assert outcome[0].labels.shape == outcome[2].labels.shape == (37, 61)


def test_what_is_wrong_with_a_checkpoint_is_said(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="Did you mean 'iter_2.pth'"):
        Segmenter(checkpoint.with_name('iter_3.pth'))
    with pytest.raises(ValueError, match='device .*cannot be used'):
        Segmenter(checkpoint, 'warp')
    with pytest.raises(ValueError, match='max_side'):
        Segmenter(checkpoint, 'cpu', max_side=3)
    with pytest.raises(ValueError, match='does not fit this model'):
        Segmenter(checkpoint, 'cpu', options={'model.decoder.dim': 64})
    with pytest.raises(ValueError, match='no .dokoder.'):
        Segmenter(checkpoint, 'cpu', options=['model.dokoder.dim=64'])


def test_arrays_become_the_pictures_they_are():
    assert as_rgb(np.array([[True, False]])).tobytes() == bytes([255] * 3 + [0] * 3)
    assert as_rgb(np.array([[65535, 256]], np.uint16)).tobytes() == bytes([255] * 3 + [1] * 3)
    clear = as_rgb(np.array([[[10, 20, 30, 0]]], np.uint8))
    assert clear.mode == 'RGB' and clear.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ImageReadError, match='max_pixels=3'):
        as_rgb(np.zeros((2, 2), np.uint8), max_pixels=3)


@pytest.mark.parametrize('max_side', [None, 300])
def test_labels_of_large_files_equal_those_of_the_test(checkpoint, tmp_path, max_side):
    """A test that resizes sees a photo of thousands of pixels as it is (or as its reader shrinks it), and so do we."""
    rng = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    small = Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    small.resize((2400, 1600), Image.Resampling.BICUBIC).save(tmp_path / 'images' / 'big.jpg')
    (tmp_path / 'labels.csv').write_text(f'image,classes\nbig.jpg,{CLASSES[0]}\n')
    (tmp_path / 'classes.txt').write_text('\n'.join(CLASSES))
    reader = dict(type='FolderReader', data_root=str(tmp_path), max_side=max_side)
    pipeline = [dict(type='ResizeLong', size=96), dict(type='PackSample')]
    dataset = DATASETS.build(dict(type='ImageLabelDataset', reader=reader, pipeline=pipeline))
    segmenter = Segmenter(checkpoint, 'cpu', options={
        'test_dataloader.dataset.reader': reader, 'test_dataloader.dataset.pipeline': pipeline})
    item = dataset[0]
    data = segmenter.model.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
    with torch.no_grad():
        expected, = segmenter.model(data['inputs'], data['data_samples'], mode='predict')
    ours = segmenter(tmp_path / 'images' / 'big.jpg').labels
    assert ours.shape == (1600, 2400)
    size = tuple(expected.prediction.shape)
    assert size == ((1600, 2400) if max_side is None else (200, 300))
    step = 1600 // size[0]
    same = ours[step // 2::step, step // 2::step] == expected.prediction.numpy()
    assert same.all() if max_side is None else same.mean() > 0.998  # drawn at 2048 pixels instead of 300


def test_labels_are_drawn_at_the_size_of_the_photo(checkpoint, photo):
    """A reader that shrinks photos does not make steps of many pixels out of their outlines."""
    big = np.asarray(Image.fromarray(photo).resize((244, 148), Image.Resampling.BICUBIC))
    reader = {'test_dataloader.dataset.reader': dict(type='FolderReader', data_root='x', max_side=61)}
    segmenter = Segmenter(checkpoint, 'cpu', options=reader)
    torch.manual_seed(0)
    with torch.no_grad():  # else nothing is found but background
        for parameter in segmenter.model.decoder.parameters():
            parameter.normal_()
    every = segmenter(big, probabilities=True, confidence=True)
    drawn = every.probabilities.astype(np.float32).argmax(0)
    assert every.labels.shape == (148, 244) and (drawn == every.labels).mean() > 0.99
    places = np.flatnonzero((every.labels[:, 1:] != every.labels[:, :-1]).any(0))
    assert len(set(places % 4)) == 4  # not between blocks of four alone
    assert not np.array_equal(every.confidence[::4].repeat(4, 0), every.confidence)
    assert np.array_equal(every.labels, segmenter(big).labels)


def test_only_classes_that_are_named_are_possible(segmenter, photo):
    every, some = segmenter(photo, probabilities=True), segmenter(photo, names=['cow', 'boat'], probabilities=True,
                                                                  confidence=True)
    possible = [0, 1 + CLASSES.index('boat'), 1 + CLASSES.index('cow')]
    expected = every.probabilities[possible].astype(float)
    expected /= expected.sum(0)
    assert np.allclose(some.probabilities[possible].astype(float), expected, atol=5e-3)
    assert not some.probabilities[[k for k in range(11) if k not in possible]].any()
    assert set(np.unique(some.labels)) <= set(possible) and some.names == ('boat', 'cow')
    assert set(some.named) == {'boat', 'cow'} and every.names is None and every.named == {}
    best = some.probabilities.astype(float).max(0)
    assert np.abs(some.confidence - 255 * best).max() <= 1 and every.confidence is None
    assert set(some.scores()) == {some.classes[label] for label in np.unique(some.labels)}
    nothing = segmenter(photo, names=[], confidence=True)
    assert not nothing.labels.any() and nothing.scores() == {'background': 1} and nothing.named == {}


def test_names_of_several_images(segmenter, photo):
    first, second, third = segmenter([photo] * 3, names=[['dog'], None, ['cat']])
    assert (first.names, second.names, third.names) == (('dog',), None, ('cat',))
    assert np.array_equal(second.labels, segmenter(photo).labels)
    assert np.array_equal(first.labels, segmenter(photo, names=['dog']).labels)
    assert first.named and third.named and not second.named


def test_wrong_names_are_told_before_the_first_image(segmenter, photo, monkeypatch):
    monkeypatch.setattr(segmenter, 'prepare', None)
    for names, message in ((['dgo'], "image 0: the model knows no class 'dgo'. Did you mean 'dog'"),
                           ('dog', "a list such as"), (['background'], 'no class of its own')):
        with pytest.raises(ValueError, match=message):
            segmenter(photo, names=names)
    for names in (['cat', 'dog'], [['cat'], 'dog'], 'dog'):
        with pytest.raises(ValueError, match=r"one list each .* such as \[\['cup', 'table'\], None\].* got the text '"):
            segmenter([photo, photo], names=names)
    with pytest.raises(ValueError, match='for each of the 2 images, got 1'):
        segmenter([photo, photo], names=[['dog']])
    with pytest.raises(ValueError, match='was not asked for'):
        SegmentationResult(np.zeros((2, 2), np.uint8), ('background', 'dog'), photo).scores()


def test_a_batch_in_one_array_and_a_sam_that_nobody_knows(segmenter, checkpoint):
    with pytest.raises(ValueError, match=r'got shape \(2, 8, 8, 3\); several images are given as a list of arrays'):
        segmenter(np.zeros((2, 8, 8, 3), np.uint8))
    for sam, message in (('tinny', r"^sam='tinny': expected one of .*Did you mean 'tiny'"),
                         ('x.pth', "^sam='x.pth': the name of the file")):
        with pytest.raises(ValueError, match=message):
            Segmenter(checkpoint, 'cpu', sam=sam)


def test_it_is_shown_in_a_line(segmenter, checkpoint):
    assert repr(segmenter) == f'Segmenter({str(checkpoint)!r}, 10 classes: bird, boat, bus, ...; on cpu)'


def test_segments_of_an_image(segmenter, photo):
    result = segmenter(photo)
    found = segmenter.segments(photo)
    assert [each['label'] for each in found] == [name for name in segmenter.classes if name in result.areas()]
    assert sum((np.asarray(each['mask']) > 0).sum() for each in found) == result.labels.size
    assert all(each['score'] is None for each in found)
    assert all(0 < each['score'] <= 1 for each in segmenter.segments(photo, scores=True))
    assert 'background' not in [each['label'] for each in segmenter.segments(photo, background=False)]
