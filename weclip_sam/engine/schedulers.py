"""WeCLIP's learning rate: a linear warm-up, then a polynomial decay that counts from the very first iteration."""
from __future__ import annotations

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch.optim import Optimizer

from weclip_sam.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PolyWarmupLR(LRSchedulerMixin, _ParamScheduler):
    """Scale the learning rate of every group by one factor, with t counted from ``begin`` and T = ``end - begin``.

    For t < warmup_iters: ``1 - (1 - t / warmup_iters) * (1 - warmup_ratio)``; afterwards ``(1 - t / T) ** power``. The
    decay is not shifted by the warm-up, so the two do not meet: at t = warmup_iters the factor falls to
    ``(1 - warmup_iters / T) ** power``. So WeCLIP's public code trains.

    Args:
        optimizer: optimizer or optimizer wrapper.
        warmup_iters: length of the warm-up; published: 50.
        warmup_ratio: factor at t = 0; published: 1e-6.
        power: of the decay; published: 1.
        begin, end: first iteration, and the one after the last; the runner fills in ``end`` when it is not given.
        last_step, by_epoch, verbose: as in every mmengine scheduler; steps are iterations unless ``by_epoch``.

    Raises:
        ValueError: no end, a ratio outside (0, 1], or a warm-up that is negative or longer than the training.
    """

    def __init__(self, optimizer: Optimizer, warmup_iters: int = 50, warmup_ratio: float = 1e-6, power: float = 1.0,
                 begin: int = 0, end: int = INF, last_step: int = -1, by_epoch: bool = False,
                 verbose: bool = False) -> None:
        if end >= INF:
            raise ValueError('PolyWarmup: end is missing; give the number of iterations the schedule ends at')
        if not 0 <= warmup_iters <= end - begin:
            raise ValueError(f'PolyWarmup: warmup_iters must lie in 0..{end - begin} (the whole schedule), '
                             f'got {warmup_iters}: a short training needs a short warm-up, '
                             f'param_scheduler.0.warmup_iters={(end - begin) // 10}')
        if not 0 < warmup_ratio <= 1:
            raise ValueError(f'PolyWarmup: warmup_ratio must lie in (0, 1], got {warmup_ratio}')
        self.warmup_iters, self.warmup_ratio, self.power = warmup_iters, warmup_ratio, power
        super().__init__(optimizer, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def _factor(self, step: int) -> float:
        if step < self.warmup_iters:
            return 1 - (1 - step / self.warmup_iters) * (1 - self.warmup_ratio)
        return (1 - step / (self.end - self.begin)) ** self.power

    def _get_value(self) -> list[float]:
        return [base * self._factor(self.last_step) for base in self.base_values]
