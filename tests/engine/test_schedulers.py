import pytest
import torch
from mmengine.optim import build_optim_wrapper

from weclip_sam.engine.schedulers import PolyWarmupLR
from weclip_sam.registry import PARAM_SCHEDULERS


def run(steps, lr=(1.0,), **kwargs):
    optimizer = torch.optim.SGD([{'params': [torch.zeros(1, requires_grad=True)], 'lr': each} for each in lr], lr=1.0)
    scheduler = PolyWarmupLR(optimizer, **kwargs)
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def test_warm_up_then_decay_that_is_not_shifted():
    rates = [row[0] for row in run(10, warmup_iters=4, warmup_ratio=0.2, end=10)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_groups_keep_their_ratio_and_power_bends_the_decay():
    rates = run(8, lr=(1.0, 10.0), warmup_iters=0, power=0.5, end=8)
    for step, (low, high) in enumerate(rates):
        assert low == pytest.approx((1 - step / 8) ** 0.5) and high == pytest.approx(10 * low)


def test_nothing_moves_outside_begin_and_end():
    rates = [row[0] for row in run(8, begin=2, end=6, warmup_iters=0)]
    assert rates == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25, 0.25, 0.25])


def test_resumes_where_it_stopped():
    def fresh():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        return optimizer, PolyWarmupLR(optimizer, warmup_iters=3, end=10)

    optimizer, scheduler = fresh()
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    again, resumed = fresh()
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    for each, step in ((optimizer, scheduler), (again, resumed)):
        each.step()
        step.step()
    assert again.param_groups[0]['lr'] == optimizer.param_groups[0]['lr'] == pytest.approx(0.4)


def test_builds_from_a_config_with_a_wrapper():
    model = torch.nn.Linear(1, 1)
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3)))
    PARAM_SCHEDULERS.build(dict(type='PolyWarmupLR', optimizer=wrapper, warmup_iters=50, end=1000))
    assert wrapper.param_groups[0]['lr'] == pytest.approx(2e-9)


@pytest.mark.parametrize('wrong, message', [
    (dict(), 'end is missing'), (dict(end=10, warmup_iters=11), r'0\.\.10'),
    (dict(end=100, warmup_ratio=0), 'warmup_ratio'),
])
def test_errors(wrong, message):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(ValueError, match=message):
        PolyWarmupLR(optimizer, **wrong)
