"""Names as CLIP-ES words them, and what may go wrong with one's own."""
import pytest

from weclip_sam.colors import voc_palette
from weclip_sam.datasets import COCO_VOCABULARY, VOC_VOCABULARY, Vocabulary
from weclip_sam.datasets.vocabulary import CANDIDATE_TEMPLATES
from weclip_sam.foundation.text import DEFAULT_TEMPLATES


def test_counts():
    assert (len(VOC_VOCABULARY.classes), len(VOC_VOCABULARY.background_nouns)) == (20, 25)
    assert (len(COCO_VOCABULARY.classes), len(COCO_VOCABULARY.background_nouns)) == (80, 23)
    assert DEFAULT_TEMPLATES == CANDIDATE_TEMPLATES[:1]
    assert all(template.count('{}') == 1 for template in CANDIDATE_TEMPLATES)
    assert len(set(CANDIDATE_TEMPLATES)) == len(CANDIDATE_TEMPLATES)


def _changed(vocabulary):
    return {c: p for c, p in zip(vocabulary.classes, vocabulary.prompt_names, strict=True) if c != p}


def test_prompt_names_of_the_published_methods():
    assert _changed(VOC_VOCABULARY) == {
        'bird': 'bird avian', 'chair': 'chair seat', 'person': 'person with clothes,people,human',
        'tvmonitor': 'tvmonitor screen'}
    assert _changed(COCO_VOCABULARY) == {
        'person': 'person with clothes,people,human', 'bird': 'bird avian', 'backpack': 'backpack,bag',
        'umbrella': 'umbrella,parasol', 'handbag': 'handbag,purse', 'tie': 'necktie', 'baseball glove': 'glove',
        'spoon': 'dessertspoon', 'chair': 'chair seat', 'tv': 'tvmonitor screen', 'remote': 'remote control',
        'hair drier': 'hairdrier,blowdrier'}
    assert 'snowboard' in COCO_VOCABULARY.prompt_names
    assert set(VOC_VOCABULARY.background_nouns) - set(COCO_VOCABULARY.background_nouns) == {'keyboard', 'sign'}


def test_voc_order_and_palette():
    assert VOC_VOCABULARY.classes[0] == 'aeroplane' and VOC_VOCABULARY.classes[14] == 'person'
    palette = voc_palette()
    assert palette[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert palette[20] == (0, 64, 128) and palette[255] == (224, 224, 192) and len(set(palette)) == 256


def test_own_names_with_synonyms():
    vocabulary = Vocabulary.build(['sofa', 'cup'], {'sofa': ['sofa', 'couch']}, ['wall', 'couch', 'cup'])
    assert vocabulary.prompt_names == ('sofa,couch', 'cup')
    assert vocabulary.background_nouns == ('wall',)  # a noun that is a class would compete with it
    assert vocabulary.metainfo()['classes'] == ('sofa', 'cup')


@pytest.mark.parametrize(('classes', 'prompts', 'message'), [
    ([], {}, '1 to 254'), (['a', 'a'], {}, "'a' repeated"), ([str(i) for i in range(255)], {}, 'got 255'),
    (['cat'], {'cta': 'x'}, "'cta' is no class.*Did you mean 'cat'"), (['cat '], {}, 'outer blanks'),
    (['cat'], {'cat': []}, 'expected a text'), (['cat'], {'cat': 3}, 'expected a text')])
def test_wrong_names(classes, prompts, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.build(classes, prompts)


def test_unknown_class_names_the_nearest():
    with pytest.raises(ValueError, match=r"list.txt: unknown class 'aeroplan'. Did you mean 'aeroplane'\?"):
        VOC_VOCABULARY.index('aeroplan', 'list.txt')
