"""What is told of an image, and which image comes first."""
import pytest

from weclip_sam.review.problems import KINDS, ORDERS, Facts, badness, find_problems, unknown_to_clip


@pytest.mark.parametrize('facts, kinds', [
    (Facts({'cup': 0.2}, names=('cup',), scores={'cup': 0.9}, named={'cup': 0.81}, doubts={'cam': 0.9}), []),
    (Facts({'cup': 0.2}, names=('cup', 'table')), ['missing']),
    (Facts({'cup': 0.2, 'table': 0.1}, names=('cup',)), ['extra']),
    (Facts({'cup': 0.0004}, names=('cup',)), ['missing', 'empty']),  # a speck is none
    (Facts({'cup': 0.2, 'table': 0.0004}, names=('cup',)), []),
    (Facts({'cup': 0.2}, scores={'cup': 0.49}), ['unsure']),
    (Facts({'cup': 0.2}, names=('cup',), named={'cup': 0.1, 'table': 0.0}), ['clip']),
    (Facts({'cup': 0.2}, doubts={'decoder': 0.11, 'sam': 0.09}), ['doubted']),
    (Facts({}), ['empty']), (Facts({}, names=()), []),  # nothing was named, and nothing is there
    (Facts({'cup': 0.3}, ignored=0.21), ['ignored']), (Facts({}, ignored=1.0), ['ignored']),
    (Facts(names=('cup',), fault='a.png: broken'), ['unreadable'])])
def test_kinds(facts, kinds):
    problems = find_problems(facts)
    assert list(problems) == kinds and set(problems) <= set(KINDS)
    assert all(problems.values())


def test_sentences_name_the_classes():
    facts = Facts({'cup': 0.2, 'vase': 0.123, 'table': 0.05}, scores={'cup': 0.4, 'vase': 0.45, 'table': 0.9},
                  names=('cup', 'table', 'chair'), named={'chair': 0.07}, doubts={'sam': 0.4})
    assert find_problems(facts) == dict(
        missing='named, but nowhere labelled: chair', extra='labelled, but not named: vase (12 %)',
        clip='CLIP hardly sees chair (0.07)', unsure='unsure of cup (0.40), vase (0.45)',
        doubted='SAM disagrees on 40 %')


def test_the_sum_of_three_parts():
    facts = Facts({'cup': 0.2, 'vase': 0.1}, scores={'cup': 0.7, 'vase': 0.6}, names=('cup', 'table'),
                  doubts={'cam': 0.9, 'sam': 0.3, 'decoder': 0.1})
    # Of cup, vase and table one is both given and found; the least sure class has 0.6.
    assert badness(facts) == pytest.approx(dict(names=2 / 3, confidence=0.4, doubts=0.3, worst=2 / 3 + 0.7))
    assert set(badness(facts)) == set(ORDERS)


def test_what_is_not_known_counts_for_nothing_and_what_cannot_be_read_comes_first():
    assert badness(Facts({'cup': 0.2})) == dict.fromkeys(ORDERS, 0.0)
    worst = Facts({'cup': 0.5}, scores={'cup': 0.0}, names=('table',), doubts={'sam': 1.0})
    assert badness(worst)['worst'] == pytest.approx(3)
    assert badness(Facts(fault='gone'))['worst'] > 3


def test_a_given_name_that_clip_does_not_see_contradicts_too():
    seen, unseen = (Facts({'cup': 0.2}, names=('cup',), named={'cup': score}) for score in (0.9, 0.1))
    assert badness(seen)['names'] == 0 and badness(unseen)['names'] == 1


@pytest.mark.parametrize('disputed, agreed, silent, told', [
    (9, 1, 5, True), (10, 0, 0, True), (8, 2, 0, False), (9, 0, 30, True), (1, 8, 0, True), (1, 9, 0, False),
    (0, 9, 0, False), (0, 10, 0, False), (0, 0, 20, False)])
def test_where_clip_disagrees_with_nearly_all_or_there_are_few_its_word_does_not_count(disputed, agreed, silent, told):
    """``silent``: photos that nobody named, or that CLIP was not asked about."""
    photos = [Facts(names=('cup',), named={'cup': score}) for score in [0.4] * disputed + [0.9] * agreed]
    photos += [Facts(), Facts(names=('cup',)), Facts(names=('cup',), named={'table': 0.1})] * (silent // 3)
    said = unknown_to_clip(photos)
    assert bool(said) is told and said.count('\n') == 0
    if told:
        assert said.startswith(f'CLIP disagrees with the names of {disputed} of {disputed + agreed} photos: ')
        assert ('of fewer than 10 nobody can tell' in said) is (disputed + agreed < 10)


def test_what_clip_does_not_know_is_no_problem_and_no_order():
    facts = Facts({'cup': 0.2}, names=('cup',), named={'cup': 0.1}, clip_counts=False)
    assert find_problems(facts) == {} and badness(facts)['names'] == 0
