"""The order of samples: shuffled per pass, the same for any number of processes, startable anywhere."""
import itertools
import pickle

import pytest

from weclip_sam.datasets import InfiniteSeededSampler, SampleIndex
from weclip_sam.registry import DATA_SAMPLERS


def _take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def test_every_pass_sees_every_image_once_in_another_order():
    taken = _take(InfiniteSeededSampler(range(7), seed=3), 21)
    passes = [[int(i) for i in taken[k:k + 7]] for k in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [i.position for i in taken] == list(range(21)) and {i.seed for i in taken} == {3}


def test_seed_decides_the_order():
    one, same, other = (_take(InfiniteSeededSampler(range(50), seed=s), 50) for s in (1, 1, 2))
    assert one == same != other
    assert InfiniteSeededSampler(range(50), seed=1).order(1) != InfiniteSeededSampler(range(50), seed=2).order(0)


def test_without_shuffling_the_order_is_plain():
    assert _take(InfiniteSeededSampler(range(3), seed=0, shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(('size', 'world', 'batch'), [(10, 2, 3), (7, 3, 2), (5, 4, 4)])
def test_union_over_processes_is_the_single_process_order(size, world, batch, monkeypatch):
    single = _take(InfiniteSeededSampler(range(size), seed=5), 4 * world * batch)
    ranks = []
    for rank in range(world):
        monkeypatch.setattr('weclip_sam.datasets.samplers.get_dist_info', lambda rank=rank: (rank, world))
        ranks.append(_take(InfiniteSeededSampler(range(size), seed=5), 4 * batch))
    for step in range(4):
        together = [i for taken in ranks for i in taken[step * batch:(step + 1) * batch]]
        expected = single[step * batch * world:(step + 1) * batch * world]
        assert sorted((i.position, int(i)) for i in together) == [(i.position, int(i)) for i in expected]


@pytest.mark.parametrize('start', [1, 9, 23])
def test_start_passes_over_samples(start):
    sampler = InfiniteSeededSampler(range(10), seed=5)
    whole = _take(sampler, 40)
    sampler.start = start
    later = _take(sampler, 40 - start)
    assert later == whole[start:] and [i.position for i in later] == [i.position for i in whole[start:]]


def test_index_survives_the_way_to_a_worker():
    index = pickle.loads(pickle.dumps(SampleIndex(4, seed=9, position=17)))
    assert (index, index.seed, index.position) == (4, 9, 17)


def test_registered_and_checked():
    assert len(DATA_SAMPLERS.build(dict(type='InfiniteSeededSampler', dataset=range(6), seed=0))) == 6
    with pytest.raises(ValueError, match='empty'):
        InfiniteSeededSampler([], seed=0)
    with pytest.raises(ValueError, match='InfiniteSeededSampler seed: expected a number >= 0, or None, got -1'):
        InfiniteSeededSampler(range(6), seed=-1)
