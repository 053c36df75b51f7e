"""PAR's Triton kernels: in Triton's interpreter wherever Triton is, on a GPU where there is one."""
import importlib.util
import sys

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from weclip_sam.seeds import par
from weclip_sam.seeds.par import Par, pixel_adaptive_refinement
from weclip_sam.structures import ClassMaps, SeedState

triton = pytest.importorskip('triton', reason='Triton is not installed')


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope='module')
def kernels():
    """A copy of the module whose kernels run on the CPU: what interprets them is chosen when they are defined."""
    if TorchVersion(np.__version__) >= '2.4' and TorchVersion(triton.__version__) < '3.7':
        pytest.skip(f'the interpreter of Triton {triton.__version__} does not go with numpy {np.__version__}')
    spec = importlib.util.find_spec('weclip_sam.seeds.par_triton')
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRITON_INTERPRET', '1')
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def interpreted(kernels, monkeypatch):
    """Refinement through the interpreted kernels."""
    monkeypatch.setitem(sys.modules, 'weclip_sam.seeds.par_triton', kernels)
    monkeypatch.setattr(sys.modules['weclip_sam.seeds'], 'par_triton', kernels, raising=False)
    return par._with_kernels


@pytest.mark.parametrize('index, shape, dilations', [
    ([0, 0, 0, 0, 0], (9, 15), (10,)),  # several programs, which reach beyond both borders; more maps than one keeps
    ([1, 0, 1], (4, 3), (1, 2)),        # in any order
    ([1] * 9, (2, 3), (1,))])           # an image without maps; many maps: another size of program
def test_kernels_equal_the_plain_version(interpreted, index, shape, dilations):
    images, scores, index = rand(1 + max(index), 3, *shape) * 255, rand(len(index), *shape, seed=1), torch.tensor(index)
    before = scores.clone()
    refined = interpreted(images, scores, index, 2, dilations)
    expected = pixel_adaptive_refinement(images, scores, index, 2, dilations, plain=True)
    torch.testing.assert_close(refined, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(scores, before)


def test_maps_of_no_image_are_not_made_up(interpreted):
    images, scores = torch.zeros(1, 3, 3, 3), rand(2, 3, 3)
    images[..., 1, 1] = 255  # no spread around a pixel that differs from all its neighbours
    refined = interpreted(images, scores, torch.tensor([7, 0]), 1, (1,))
    assert refined[0].isnan().all()
    torch.testing.assert_close(refined[1:], pixel_adaptive_refinement(images, scores[1:], None, 1, (1,), plain=True))


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='the kernels themselves run on a GPU')


@gpu
@pytest.mark.parametrize('size, batch, maps', [((320, 320), 4, 8), ((112, 112), 16, 70), ((375, 500), 1, 20)])
def test_kernels_on_a_gpu(size, batch, maps):
    images, scores = rand(batch, 3, *size).cuda() * 255, rand(maps, *size, seed=1).cuda()
    index = torch.arange(maps).remainder(batch).cuda()
    refined = pixel_adaptive_refinement(images, scores, index)
    assert par._has_kernels(scores.device)
    torch.testing.assert_close(refined, pixel_adaptive_refinement(images, scores, index, plain=True), atol=1e-4, rtol=0)
    assert torch.equal(refined, pixel_adaptive_refinement(images, scores, index))


@gpu
def test_the_step_on_a_gpu_never_waits():
    maps = ClassMaps(rand(2, 4, 4, seed=2), torch.tensor([0, 2]), torch.tensor([1, 0]))
    state = SeedState(images=rand(3, 3, 16, 16), image_labels=torch.ones(3, 2, dtype=torch.bool), maps=maps)
    there = SeedState(images=state.images.cuda(), image_labels=state.image_labels,
                      maps=ClassMaps(*(t.cuda() for t in (maps.scores, maps.sample_index, maps.class_index))))
    step = Par(iterations=3)
    step(there)
    torch.cuda.set_sync_debug_mode('error')
    try:
        after = step(there)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(after.maps.scores.cpu(), step(state).maps.scores, atol=1e-5, rtol=1e-4)
