import numpy as np
import pytest
from captions import FACTS, NAMES, name_sentence, scene_facts, truth, write_caption

from weclip_sam.datasets import ImageLabelDataset
from weclip_sam.datasets.shapes.reader import ShapesReader, shapes_vocabulary
from weclip_sam.datasets.shapes.scenes import BACKGROUND_NOUNS, CLASSES, SYNONYMS, render_scene


def scene(index=0, **kwargs):
    return render_scene(np.random.default_rng([5, index]), 64, **kwargs)


def test_a_scene_is_a_function_of_its_generator():
    first, again, other = scene(1), scene(1), scene(2)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.label_map(), again.label_map())
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize('name', CLASSES)
def test_every_class_can_be_drawn_and_has_parts_inside_it(name):
    (instance,) = scene(3, names=[name], scale=(0.6, 0.7)).instances
    assert instance.name == name and 0.03 < instance.mask.mean() < 0.8
    assert len(instance.parts) == 2
    union = np.any([mask for _, mask in instance.parts], axis=0)
    assert np.array_equal(union, instance.mask)
    # The telling part is the smaller one: that is what makes localisation hard.
    assert instance.parts[1][1].sum() < instance.parts[0][1].sum() * 1.6


def test_label_map_holds_exactly_the_listed_classes():
    for index in range(20):
        drawn = scene(index)
        assert set(np.unique(drawn.label_map())) - {0} == {1 + CLASSES.index(i.name) for i in drawn.instances}
        assert 0 <= len(drawn.instances) <= 3


def test_quadrupeds_share_their_body():
    bodies = [render_scene(np.random.default_rng(9), 64, names=[name], background='snow').instances[0].parts[0][1]
              for name in ('cat', 'dog')]
    overlap = (bodies[0] & bodies[1]).sum() / (bodies[0] | bodies[1]).sum()
    assert overlap > 0.8


def test_cooccurrence_is_in_the_data_set_and_not_in_free_scenes():
    def share(**kwargs):
        drawn = [render_scene(np.random.default_rng([1, i]), 32, names=['boat'], **kwargs) for i in range(80)]
        return np.mean([d.background == 'water' for d in drawn])
    assert share(cooccurrence=True) > 0.6
    assert share() < 0.35


@pytest.mark.parametrize(('wrong', 'near'), [(dict(names=['horze']), 'horse'), (dict(background='sea'), 'water')])
def test_unknown_names_are_refused(wrong, near):
    with pytest.raises(ValueError, match=near):
        scene(**wrong)


def test_captions_are_true_of_their_scene():
    rng = np.random.default_rng(0)
    for index in range(30):
        drawn = scene(index)
        caption = write_caption(drawn, rng)
        assert truth([scene_facts(drawn)], [caption.states])[0, 0]
        for instance in drawn.instances:
            if FACTS.index(instance.name) in caption.states:
                assert any(word in caption.text for word in SYNONYMS[instance.name])


def test_a_caption_about_something_else_is_not_true():
    facts = [(0, 5), (1,)]
    assert truth(facts, [(0,), (1,), (0, 5), (5, 1)]).tolist() == [[True, False, True, False],
                                                                 [False, True, False, False]]


def test_name_sentences_name_their_fact():
    rng = np.random.default_rng(0)
    for fact in NAMES:
        words = SYNONYMS.get(FACTS[fact], (FACTS[fact],))
        sentence = name_sentence(fact, rng)
        assert any(word in sentence for word in words)


def test_reader_splits_are_disjoint_and_repeatable():
    readers = {split: ShapesReader(split, num_images=3, size=48) for split in ('train', 'val', 'tune')}
    images = {split: np.asarray(reader.load_image(0)) for split, reader in readers.items()}
    assert not np.array_equal(images['train'], images['val'])
    assert not np.array_equal(images['train'], images['tune'])
    again = ShapesReader('train', num_images=5, size=48)
    assert np.array_equal(images['train'], np.asarray(again.load_image(0)))
    assert again.records[0] == readers['train'].records[0]


def test_data_set_labels_match_the_ground_truth():
    data = ImageLabelDataset(dict(type='ShapesReader', split='val', num_images=6, size=48), with_masks=True)
    assert data.metainfo['classes'] == CLASSES and data.metainfo['background_nouns'] == BACKGROUND_NOUNS
    for index in range(6):
        present = set(np.unique(data.load_ground_truth(index))) - {0}
        assert present == {c + 1 for c in data.image_labels[index].nonzero()[:, 0].tolist()}


def test_unknown_split_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        ShapesReader('trian', num_images=1, size=48)


def test_vocabulary_has_no_class_among_the_background_nouns():
    names = shapes_vocabulary()
    assert not set(names.classes) & set(names.background_nouns)


def test_an_individual_keeps_its_looks_wherever_it_stands():
    def colours(look, place):
        scene = render_scene(np.random.default_rng(place), 64, names=['dog'], looks=[look], scale=(0.7, 0.7))
        return scene.instances[0].colour
    assert all(len({colours(look, place) for place in range(5)}) == 1 for look in range(4))
    assert len({colours(look, 0) for look in range(8)}) > 2
    with pytest.raises(ValueError, match=r'looks: expected one seed for each of names \(1\), got 2'):
        render_scene(np.random.default_rng(0), 64, names=['dog'], looks=[1, 2])
