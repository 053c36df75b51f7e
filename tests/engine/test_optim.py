"""Optimizers: one kernel for all parameters where it pays, and no wait for the norm of the gradients."""
import copy

import mmengine.optim
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import weclip_sam.engine  # noqa: F401 - registers
from weclip_sam.engine.optim import PatientOptimWrapper, may_be_fused


@pytest.fixture(autouse=True)
def own_names():
    """As a Runner sees them: the names of a config mean this package's types first."""
    with DefaultScope.overwrite_default_scope('weclip_sam'):
        yield


def wrapped(model, **settings):
    return build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)) | settings)


@pytest.mark.parametrize('settings, devices, fused', [
    (dict(type='AdamW'), {'cuda'}, True), (dict(type='SGD'), {'cuda'}, True), (dict(type='AdamW'), {'cpu'}, True),
    (dict(type='SGD'), {'cpu'}, False), (dict(type=torch.optim.AdamW), {'cuda'}, True),
    (dict(type='AdamW', fused=False), {'cuda'}, False), (dict(type='AdamW', foreach=True), {'cuda'}, False),
    (dict(type='RMSprop'), {'cuda'}, False), (dict(type='AdamW'), {'meta'}, False),
    (dict(type='AdamW'), {'cpu', 'cuda'}, False), (dict(type='AdamW'), set(), False), (dict(), {'cuda'}, False),
])
def test_which_optimizers_are_fused(settings, devices, fused):
    assert may_be_fused(settings, devices) == fused


def test_a_config_gets_the_fused_kernel_and_the_same_steps():
    torch.manual_seed(0)
    model = torch.nn.Linear(7, 5)
    other = copy.deepcopy(model)
    fast, plain = wrapped(model), wrapped(other, optimizer=dict(type='AdamW', lr=0.1, fused=False))
    assert isinstance(fast, PatientOptimWrapper)
    assert fast.param_groups[0]['fused'] is True and plain.param_groups[0]['fused'] is False
    for _ in range(3):
        for wrapper, net in ((fast, model), (plain, other)):
            wrapper.update_params(net(torch.ones(2, 7)).square().sum())
            assert all(parameter.grad is None for parameter in net.parameters())
    torch.testing.assert_close(model.weight, other.weight, rtol=1e-5, atol=1e-6)


def test_settings_by_parameter_stay():
    model = torch.nn.Linear(2, 2)
    wrapper = wrapped(model, paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=10))))
    assert {(group['lr'], group['fused']) for group in wrapper.param_groups} == {(0.1, True), (1.0, True)}


def test_the_norm_is_that_of_mmengine_and_not_read():
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(3, 2), torch.ones(4, 3)
    own = wrapped(model, clip_grad=dict(max_norm=0.1))
    theirs = mmengine.optim.OptimWrapper(torch.optim.SGD(model.parameters(), 0.0), clip_grad=dict(max_norm=0.1))
    noted = []
    theirs.message_hub = type('Hub', (), dict(update_scalar=lambda self, name, value: noted.append((name, value))))()
    own.message_hub = None  # nothing is told to it
    theirs.update_params(model(inputs).sum())
    own.update_params(model(inputs).sum())
    told = own.take_norm()
    assert [(f'train/{name}', value.item()) for name, value in told.items()] == noted and own.take_norm() == {}


def test_clipping_by_value_and_without_gradients_has_no_norm():
    model = torch.nn.Linear(3, 2)
    wrapper = wrapped(model, clip_grad=dict(type='value', clip_value=0.1))
    wrapper.step()
    wrapper.update_params(model(torch.ones(4, 3)).sum())
    assert wrapper.take_norm() == {}
