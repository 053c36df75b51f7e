"""Law 2: nothing in a training step waits for the host, and image labels stay where nobody has to wait for them.

Without a GPU the ``meta`` device stands in: a tensor there has no numbers, so whoever wants to know one on the host
fails, as does whoever mixes devices. What would merely be slow (a copy that blocks, numbers of a Python list) is
noticed by :class:`Waits`.
"""
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import ParamSchedulerHook
from mmengine.logging import MessageHub
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import weclip_sam
from weclip_sam.engine.hooks.losses import LazyRuntimeInfoHook
from weclip_sam.engine.hooks.state import CurriculumHook
from weclip_sam.engine.optim import PatientOptimWrapper
from weclip_sam.engine.schedulers import PolyWarmupLR
from weclip_sam.features import BankedTokens
from weclip_sam.models.preprocess import SegDataPreprocessor, move_together, pack, unpack
from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet, SegSample, to_device

PACKAGE = Path(weclip_sam.__file__).parent
SIZE = 32
CLIP = dict(type='FrozenClip', arch='tiny', checkpoint='random')
VOCABULARY = dict(classes=['cat', 'dog', 'boat'], prompt_names=['cat', 'dog', 'boat'],
                  background_nouns=['grass', 'sky'])
GRADCAM = dict(type='GradCam')
RFM = [GRADCAM, dict(type='RfmAffinity', layers=[1, 2], warmup_layers=2)]
WECLIP = dict(type='WeClip', clip=CLIP, decoder=dict(type='WeClipDecoder', dim=32, depth=1, heads=4),
              vocabulary=VOCABULARY, rfm_start=0)
STEPS = {
    'weclip': dict(WECLIP, seeds=[*RFM, dict(type='Par', iterations=1),
                                  dict(type='PixelLabels', min_confidence=0.1, ignore_unlabelled=True)]),
    'weclip warming up': dict(WECLIP, rfm_start=9, seeds=[*RFM, dict(type='PixelLabels')]),
    'weclip_sam warming up': dict(WECLIP, rfm_start=9, seeds=[
        *RFM, dict(type='BlendMaps'), dict(type='BlendPrediction'), dict(type='RockSandWater'), dict(type='SamVote')]),
    'weclip_sam': dict(WECLIP, seeds=[
        *RFM, dict(type='BlendMaps'), dict(type='BlendPrediction'), dict(type='RockSandWater'), dict(type='SamVote'),
        dict(type='IgnoreDisagreement')]),
    'attention and masks': dict(WECLIP, seeds=[
        GRADCAM, dict(type='AttentionAffinity', layers=2), dict(type='PixelLabels'),
        dict(type='SamVote', uncovered='keep', normalisation='softmax'), dict(type='SeplMerge')]),
    'fma': dict(WECLIP, seeds=[
        dict(type='GradCam', signed=True, softmax='fma'), dict(type='FmaAffinity', layers=2, outside='outside'),
        dict(type='SamVote', uncovered='ignore', normalisation='double')]),
    'second eye': dict(
        WECLIP, encoders=dict(sam=dict(type='SamEye', sam=dict(type='FrozenSam', arch='tiny'))),
        decoder=dict(type='BranchDecoder', branches=dict(clip=1, sam=[-1]), dim=32, depth=1, heads=4),
        agreement=dict(dice_weight=1.0, mutual_weight=0.1, replace_start=-1),
        seeds=[dict(type='ExcelMaps', blocks=1), dict(type='WeighByPrediction'), dict(type='CdaAffinity', layers=2),
               dict(type='EyeAffinity', eye='sam'), dict(type='PixelLabels')]),
    'second eye of a bank': dict(
        WECLIP, encoders=dict(sam=dict(type='SamEye', sam=dict(type='FrozenSam', arch='tiny'))),
        seeds=[dict(type='ExcelMaps', blocks=1), dict(type='EyeAffinity', eye='sam'), dict(type='PixelLabels')]),
    'second stage': dict(type='Segmentor', backbone=dict(type='TimmBackbone', name='test_resnet', output_stride=8),
                         head=dict(type='DeepLabV3Head', channels=16, rates=(1, 2)), vocabulary=VOCABULARY),
    'decoder taught offline': dict(WECLIP, labels='offline'),
    'prompts by contrast': dict(type='PromptTuner', clip=CLIP, vocabulary=VOCABULARY, n_ctx=4),
    'prompts by seeds': dict(type='PromptTuner', clip=CLIP, vocabulary=VOCABULARY, n_ctx=4, task='segmentation'),
}


class Waits(TorchDispatchMode):
    """Writes down (file, function) of the package wherever a GPU would make the host wait.

    That is: reading numbers, results whose shape depends on numbers, a copy between host and device that blocks
    (``non_blocking`` was not said), an index that lies on the host, and numbers of a Python list put on the device.
    """

    READS = {'_local_scalar_dense', 'is_nonzero', 'nonzero', 'masked_select', 'unique_dim', '_unique2', 'equal',
             'unique_consecutive', 'bincount', 'repeat_interleave'}

    def __init__(self, device):
        super().__init__()
        self.device, self.found = device, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.would_wait(func.__name__.split('.')[0], args, kwargs):
            self.found.add(self.caller())
        return func(*args, **kwargs)

    def would_wait(self, name, args, kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if tensor.device.type == self.device]
        target = torch.device(kwargs['device']).type if kwargs.get('device') is not None else None
        if name == '_to_copy' and target is not None and tensors[0].device.type != target:
            return not (kwargs.get('non_blocking') and target == self.device)
        if not there:
            return False
        if name == 'copy_':
            going_on = there[0] is tensors[0] and (kwargs.get('non_blocking') or args[2:] == (True,))
            return len(there) == 1 and not going_on
        if name in ('index', 'index_put', 'index_put_'):
            indices = [index for index in args[1] if index is not None]
            return any(i.dtype in (torch.bool, torch.uint8) or i.device.type != self.device for i in indices)
        return name in self.READS or name == 'lift_fresh'

    @staticmethod
    def caller():
        frame = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                return path.relative_to(PACKAGE).as_posix(), frame.f_code.co_name
            frame = frame.f_back
        return 'outside of the package', ''


def batch(name=''):
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for i, classes in enumerate(([0], [1, 2], [])):
        sample = SegSample(metainfo=dict(image_id=f'i{i}', ori_shape=(SIZE, SIZE), img_shape=(SIZE, SIZE),
                                         content_box=(0, 0, SIZE, SIZE), flip=False))
        sample.image_labels = torch.zeros(3, dtype=torch.bool)
        sample.image_labels[classes] = True
        sample.padding_mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        sample.pixel_labels = torch.randint(0, 4, (SIZE, SIZE), generator=generator)
        masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
        masks[0, :SIZE // 2] = masks[1, 4:9, 4:9] = True
        one = torch.ones(2)
        sample.mask_set = MaskSet(masks, torch.tensor([2, 1]), one, one, torch.zeros(2).long())
        if name.endswith('of a bank'):
            sample.banked = dict(sam=BankedTokens(torch.rand(4, 4, 128, generator=generator).half(), 3, 8))
        inputs.append(torch.randint(0, 256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def training(config, device):
    """A model on ``device`` and the wrapper of its optimizer, which clips gradients."""
    torch.manual_seed(0)
    model = MODELS.build(config).to(device).train()
    if hasattr(model, 'set_progress'):
        model.set_progress(1)
    # As on a GPU, where it is fused: never one step count after the other.
    kind = dict(fused=True) if device == 'cuda' else dict(foreach=True)
    return model, PatientOptimWrapper(torch.optim.AdamW(model.parameters(), 0.01, **kind), clip_grad=dict(max_norm=1))


class Iterations:
    """What a Runner does in an iteration that no line of the log shows: the step, and the hooks around it."""

    def __init__(self, model, optimizer):
        self.model, self.optim_wrapper, self.iter, self.max_iters = model, optimizer, 0, 100
        self.message_hub, self.train_dataloader = MessageHub.get_instance('iterations'), range(100)
        self.param_schedulers = [PolyWarmupLR(optimizer, warmup_iters=2, end=100)]
        self.train_loop = SimpleNamespace(_epoch=0, dataloader=self.train_dataloader)
        own = [CurriculumHook()] if hasattr(model, 'set_progress') else []
        self.hooks = [LazyRuntimeInfoHook(), *own, ParamSchedulerHook()]
        # All that is shown has been shown before, in the first iteration.
        for name in ('loss', 'grad_norm', 'loss_seg', 'loss_affinity', 'loss_contrast', 'loss_inside', 'loss_outside',
                     'loss_margin', 'loss_dice', 'loss_mutual'):
            self.message_hub.update_scalar(f'train/{name}', 0.0)

    def __call__(self, data):
        for hook in self.hooks:
            hook.before_train_iter(self, self.iter, data)
        losses = self.model.train_step(data, self.optim_wrapper)
        for hook in self.hooks:
            hook.after_train_iter(self, self.iter, data, losses)
        self.iter += 1
        return losses


@pytest.fixture(autouse=True)
def no_hub_is_left():
    yield
    MessageHub._instance_dict.pop('iterations', None)


@pytest.fixture
def meta_device(monkeypatch):
    """Autocast knows no ``meta`` device: what switches it off there switches it off on the CPU."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, 'autocast', lambda kind, *args, **kwargs: autocast(
        'cpu' if kind == 'meta' else kind, *args, **kwargs))
    return 'meta'


@pytest.mark.parametrize('name', STEPS)
def test_a_training_step_does_not_wait(name, meta_device):
    model, optimizer = training(STEPS[name], meta_device)
    iterations, data = Iterations(model, optimizer), batch(name)
    with Waits(meta_device) as waits:
        losses = iterations(data)
    assert all(value.device.type == meta_device for value in losses.values())
    assert waits.found == set(), 'these functions make the host wait'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='the real waits are those of a GPU')
@pytest.mark.parametrize('name', STEPS)
def test_a_training_step_on_a_gpu_does_not_wait(name):
    model, optimizer = training(STEPS[name], 'cuda')
    iterations, data = Iterations(model, optimizer), batch(name)
    iterations(batch(name))  # libraries wait when they are used for the first time
    torch.cuda.set_sync_debug_mode('error')
    try:
        losses = iterations(data)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert all(torch.isfinite(value) for value in losses.values())


def test_image_labels_on_the_device_are_noticed(meta_device):
    model, optimizer = training(STEPS['weclip_sam'], meta_device)
    data = batch()
    for sample in data['data_samples']:
        sample.image_labels = sample.image_labels.to(meta_device)
    with Waits(meta_device) as waits, pytest.raises((NotImplementedError, RuntimeError)):
        model.train_step(data, optimizer)
    assert ('seeds/gradcam.py', 'present_pairs') in waits.found




told = pytest.mark.skipif(torch.__version__ < '2.15', reason='torch 2.11 puts the numbers of a list on a device unseen')


@pytest.mark.parametrize('act', [
    lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: x.cpu(), lambda x: bool(x.any()), lambda x: x.nonzero(),
    lambda x: x[x > 0], pytest.param(lambda x: x[[0, 1]], marks=told), lambda x: x[torch.tensor([0, 1])],
    lambda x: x + torch.ones(4).to(x), lambda x: x.copy_(torch.ones(4)),
    pytest.param(lambda x: torch.tensor([1, 2], device=x.device), marks=told), lambda x: x.unique(),
    lambda x: torch.repeat_interleave(x.long())])
def test_the_watch_itself_notices(act):
    x = torch.zeros(4, device='meta')
    with Waits('meta') as waits:
        try:
            act(x)
        except (NotImplementedError, RuntimeError):
            pass
    assert waits.found


@pytest.mark.parametrize('act', [
    lambda x: to_device(torch.ones(4), x.device), lambda x: x.copy_(torch.ones(4), non_blocking=True),
    lambda x: torch.where(x > 0, x, 0), lambda x: x[x.long()], lambda x: x * 2 + torch.arange(4, device=x.device),
    lambda x: x.masked_fill(x > 0, 1), lambda x: x[1:], lambda x: torch.ones(4).nonzero(),
    lambda x: torch.tensor([1, 2]).tolist()])
def test_the_watch_is_not_alarmed_by_what_goes_on_alone(act):
    with Waits('meta') as waits:
        act(torch.zeros(4, device='meta'))
    assert not waits.found


def test_everything_but_the_image_labels_is_moved_at_once():
    preprocessor = SegDataPreprocessor(16).to('meta')
    with Waits('meta') as waits:
        data = preprocessor(batch(), True)
    assert not waits.found and data['inputs'].device.type == 'meta' and data['inputs'].dtype == torch.float32
    sample = data['data_samples'][1]
    assert sample.image_id == 'i1' and sample.image_labels.tolist() == [False, True, True]
    assert {sample.padding_mask.device.type, sample.pixel_labels.device.type} == {'meta'}
    masks = vars(sample.mask_set).values()
    assert {each.device.type for each in masks if isinstance(each, torch.Tensor)} == {'meta'}
    assert 'meta' not in {t.device.type for t in batch()['data_samples'][1].values() if isinstance(t, torch.Tensor)}


class Copies(TorchDispatchMode):
    """Counts the copies from the host to a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.__name__.split('.')[0] in ('_to_copy', 'copy_'):
            sources = {tensor.device.type for tensor in args if isinstance(tensor, torch.Tensor)}
            self.count += 'cpu' in sources and result.device.type != 'cpu'
        return result


def test_a_batch_is_moved_in_one_copy():
    preprocessor, data = SegDataPreprocessor(16).to('meta'), batch()
    with Copies() as copies:
        preprocessor(data, True)
    assert copies.count == 1
    with Copies() as copies:
        data['data_samples'][0].mask_set.to('meta')
    assert copies.count == 5  # one by one


def test_what_is_packed_comes_out_again():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(3, 5, generator=generator), torch.zeros(0, 4, dtype=torch.bool), torch.tensor(7),
               torch.rand(7, generator=generator) > 0.5, torch.rand(2, 3, generator=generator).double().T,
               torch.arange(5, dtype=torch.uint8), torch.rand(3, generator=generator).bfloat16()]
    block = pack(tensors)
    assert block.dtype == torch.uint8 and block.dim() == 1
    for part, tensor in zip(unpack(block, tensors), tensors, strict=True):
        assert part.dtype == tensor.dtype and torch.equal(part, tensor)
        assert part.untyped_storage().data_ptr() == block.untyped_storage().data_ptr()


def test_what_is_on_the_model_s_device_is_not_copied():
    data = batch()
    given = data['data_samples'][1]
    moved = SegDataPreprocessor(16)(data)['data_samples'][1]
    assert moved is not given and moved.padding_mask is given.padding_mask
    assert moved.mask_set.masks is given.mask_set.masks
    there = torch.zeros(3, device='meta')
    assert move_together([torch.ones(2), there], 'meta')[1] is there


def test_masks_of_a_batch_know_their_image_without_waiting():
    sets = [MaskSet(torch.zeros(count, 4, 4, dtype=torch.bool), *torch.zeros(4, count)) for count in (2, 0, 1)]
    assert MaskSet.stack(sets).sample_index.tolist() == [0, 0, 2]
    with Waits('meta') as waits:
        stacked = MaskSet.stack([to_device(masks, 'meta') for masks in sets])
    assert not waits.found and stacked.sample_index.shape == (3,) and stacked.sample_index.device.type == 'meta'


def test_images_of_several_sizes_and_types_are_padded_alike():
    small, large = torch.full((3, 5, 9), 7, dtype=torch.uint8), torch.full((3, 8, 6), 9, dtype=torch.uint8)
    plain = SegDataPreprocessor(4)(dict(inputs=[small, large]))['inputs']
    assert plain.shape == (2, 3, 8, 12) and plain.dtype == torch.float32
    assert (plain[0, :, :5, :9] == 7).all() and (plain[1, :, :, 6:] == 114).all() and (plain[0, :, 5:] == 114).all()
    assert torch.equal(SegDataPreprocessor(4)(dict(inputs=[small, large.float()]))['inputs'], plain)
    between = SegDataPreprocessor(4, fill=0.5)(dict(inputs=[small, large]))['inputs']
    assert (between[1, :, :, 6:] == 0.5).all() and torch.equal(between[1, :, :, :6], plain[1, :, :, :6])
    with pytest.raises(ValueError, match=r'fill: expected a value in 0\.\.255, got 256'):  # a GPU's bytes would wrap
        SegDataPreprocessor(4, fill=256)
