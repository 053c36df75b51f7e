import pytest
import torch

from weclip_sam.features import ClipFeatures, Kept, Wanted, wanted_by_all, wishes


def attention(blocks=4, seed=0):
    return torch.rand(blocks, 2, 7, 7, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_wishes_add_up_and_everything_stays_everything():
    one, two = Wanted(tokens=frozenset({1})), Wanted.mean_attention(4, 2)
    both = one | two
    assert both == Wanted(frozenset({1}), frozenset(), frozenset({(2, 3)}))
    assert (both.last, one.last, Wanted().last) == (3, 1, -1)
    assert both.attended(2) and not both.attended(1) and Wanted(attentions=frozenset({1})).attended(1)
    assert wanted_by_all([{'a': one}, {'a': two, 'b': None}, {'b': one}]) == {'a': both, 'b': None}
    assert Wanted.everything(2) == Wanted(frozenset({0, 1}), frozenset({0, 1}))
    assert Wanted.last_block_input(4) == Wanted(frozenset({2}))
    with pytest.raises(ValueError, match='at least 2 blocks, got 1'):
        Wanted.last_block_input(1)
    with pytest.raises(ValueError, match=r'attention layers.*0\.\.3'):
        Wanted.mean_attention(4, [4])


def test_who_does_not_say_what_it_wants_gets_everything():
    class Says:
        def wants(self, encoders, decoder_heard):
            return {'clip': Wanted(tokens=frozenset({encoders['clip']}))}
    encoders = {'clip': 5, 'grey': 2}
    assert wishes(Says(), {'clip', 'grey', 'maps'}, encoders, False) == {
        'clip': Wanted(tokens=frozenset({5})), 'grey': None}
    assert wishes(object(), {'clip'}, encoders, False) == {'clip': None}


def test_what_was_not_kept_is_an_error_that_names_it():
    blocks = attention()
    kept = Kept('tokens', 4, {1: blocks[1], 2: blocks[2]})
    assert len(kept) == 4 and kept[1] is kept.kept[1] and kept[-2] is kept.kept[2] and len(kept[1:3]) == 2
    with pytest.raises(ValueError, match=r'tokens of block 3 were not asked for \(kept: \[1, 2\]\)'):
        kept[-1]
    with pytest.raises(IndexError):
        kept[4]


def test_a_mean_comes_from_its_buffer_or_from_its_blocks():
    blocks, mean = attention(), torch.zeros(2, 6, 6)
    whole = ClipFeatures(blocks, blocks, (2, 3))
    expected = blocks[[1, 3], :, 1:, 1:].mean(0)
    torch.testing.assert_close(whole.mean_attention([3, 1]), expected)
    torch.testing.assert_close(whole.patch_attentions(), blocks[:, :, 1:, 1:])
    some = ClipFeatures(blocks, Kept('attentions', 4, {1: blocks[1], 3: blocks[3]}), (2, 3), means={(2, 3): mean})
    torch.testing.assert_close(some.mean_attention([1, -1]), expected)
    assert some.mean_attention(2) is mean
    for missing in (lambda: some.mean_attention(3), lambda: some.patch_attention(0), some.patch_attentions):
        with pytest.raises(ValueError, match='attentions of block [02] were not asked for'):
            missing()
