"""Items worked on side by side come back in order, as the caller set torch up, and leave torch as it was."""
import time

import pytest
import torch

from weclip_sam.io.threads import each_on_one_core


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(threads):
    def work(item):
        time.sleep(0.002 * (7 - item))  # the first take longest
        return item, torch.get_num_threads()
    results = list(each_on_one_core(work, iter(range(7))))
    assert results == [(item, 1) for item in range(7)]


def test_gradients_and_autocast_are_the_caller_s(threads):
    def state(_):
        return torch.is_grad_enabled(), torch.is_autocast_enabled('cpu')
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert set(each_on_one_core(state, range(4))) == {(False, True)}
    assert set(each_on_one_core(state, range(4))) == {(True, False)}


def test_an_error_comes_where_its_result_would_and_items_are_taken_as_they_are_needed(threads):
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item):
        if item == 2:
            raise ValueError('image 2')
        return item
    results = each_on_one_core(work, items())
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match='image 2'):
        next(results)
    assert len(taken) <= 3 + 2 * threads


def test_elsewhere_items_follow_one_another(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 4)
    assert list(each_on_one_core(lambda item: item + 1, [1, 2], 'meta')) == [2, 3]
