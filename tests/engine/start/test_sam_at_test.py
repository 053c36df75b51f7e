"""What --sam means, and where a refinement that looks at SAM finds its masks."""
from pathlib import Path

import pytest
from mmengine.config import Config

from weclip_sam.engine.start.config import read_config, use_test_options
from weclip_sam.engine.start.sam_at_test import SAM_AT_TEST, fill_sam_at_test, score_without_sam
from weclip_sam.mask_bank import MaskBank

ROOT = Path(__file__).resolve().parents[3]
VOTE = dict(type='VotePrediction')
CRF = dict(type='Crf', normalise=False, crf=dict(iterations=1))
GENERATOR = dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))


@pytest.fixture
def config(tmp_path):
    """A function: a config with a bank's folder, options added."""
    def make(**more):
        loader = dict(dataset=dict(reader=dict(split='val'), pipeline=[dict(type='PackSample')]))
        return Config({**dict(model=dict(type='X', test=dict()), crf=dict(iterations=1), test_dataloader=loader,
                              mask_bank=str(tmp_path / 'own_train'), test_evaluator=dict(type='IoUMetric')), **more})
    return make


def refined(config, **options):
    use_test_options(config, **options)
    test = config.model.test.to_dict()
    return test['refine'], test.get('crf')


def test_off_by_default_and_the_order_is_said(config):
    given = config()
    use_test_options(given, crf=True)
    assert 'refine' not in given.model.test
    default = [dict(step) for step in SAM_AT_TEST['refine']]
    assert refined(config(), sam=True) == (default, None)
    for order, expected in ((['sam', 'crf'], ([VOTE], dict(iterations=1))), (['crf', 'sam'], ([CRF, VOTE], None))):
        said = config(sam=dict(refine=[VOTE], order=order))
        assert refined(said, sam=True, crf=True) == expected
        assert refined(config(sam=dict(refine=[VOTE], order=order)), sam=True) == ([VOTE], None)
    own = [dict(type='RockSandWater'), VOTE]
    always = config(model=dict(type='X', test=dict(refine=own)))
    assert refined(always, sam=True) == (own, None)  # it refines with SAM already
    assert refined(config(), sam=dict(refine=[VOTE], mask_generator=GENERATOR))[0] == [VOTE]
    named = config()
    use_test_options(named, sam='tiny')
    assert named.model.test.mask_generator.sam.arch == 'tiny'


@pytest.mark.parametrize('said, message', [
    (dict(order=['sam']), 'sam.order'), (dict(refin=[]), "Did you mean 'refine'")])
def test_wrong_settings_are_named(config, said, message):
    with pytest.raises(ValueError, match=message):
        use_test_options(config(sam=said), sam=True)


def test_masks_come_from_the_split_s_bank_or_are_made(config, tmp_path):
    def filled(**more):
        given = config(**{**dict(mask_generator=GENERATOR), **more})
        use_test_options(given, sam=dict(refine=[VOTE]))
        fill_sam_at_test(given)
        once = given.to_dict()
        fill_sam_at_test(given)
        assert given.to_dict() == once
        return once['model']['test']['mask_generator'], once['test_dataloader']['dataset']
    generator, dataset = filled()
    assert generator == GENERATOR and dataset['pipeline'] == [dict(type='PackSample', refine=True)]
    assert 'mask_bank' not in dataset
    for split in ('train', 'val'):  # where there are both, that of the images' own split
        MaskBank(tmp_path / f'own_{split}', 'g', 'd').close()
        assert filled()[1]['mask_bank'] == dict(bank=str(tmp_path / f'own_{split}'), others='missing', missing='none')
    generator, dataset = filled(mask_generator=None)
    assert generator is None and dataset['mask_bank']['missing'] == 'error'
    loader = dict(dataset=dict(pipeline=[], mask_bank='asked'))
    assert filled(test_dataloader=loader)[1]['mask_bank'] == dict(bank='asked', others='error', missing='none')


def test_another_sam_than_the_config_s_looks_at_no_bank(config, tmp_path):
    MaskBank(tmp_path / 'own_val', 'g', 'd').close()
    given = config(mask_generator=GENERATOR)
    use_test_options(given, sam='vit_b')
    fill_sam_at_test(given)
    assert 'mask_bank' not in given.test_dataloader.dataset


@pytest.mark.parametrize('bank, step', [(False, VOTE), (True, dict(type='PromptedSam'))])
def test_nothing_says_which_sam(config, tmp_path, bank, step):
    if bank:
        MaskBank(tmp_path / 'own_val', 'g', 'd').close()  # answers no prompts
    given = config()
    use_test_options(given, sam=dict(refine=[step]))
    with pytest.raises(ValueError, match='mask_generator is missing at the top of the config.*--sam tiny'):
        fill_sam_at_test(given)
    plain = config()
    fill_sam_at_test(plain)
    assert plain.to_dict() == config().to_dict()


def test_a_test_scores_what_comes_out_without_sam_too(config):
    given = config(sam=dict(refine=[VOTE]))
    score_without_sam(given)
    assert 'beside' not in given.model.test
    use_test_options(given, sam=True, crf=True)
    score_without_sam(given)
    assert given.model.test.beside.to_dict() == dict(without_sam=[CRF])
    assert [metric['type'] for metric in given.test_evaluator] == ['IoUMetric', 'IoUMetric', 'SamCost']


def test_the_snippet_says_what_the_option_does(tmp_path):
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(f"_base_ = ['{ROOT}/configs/_base_/models/weclip_tiny.py', '{ROOT}/configs/_base_/test/sam.py']\n"
                    'model = dict(test=dict(refine={{_base_.sam.refine}}))')
    given = read_config(leaf)
    assert given.sam.to_dict() == {**SAM_AT_TEST, 'order': list(SAM_AT_TEST['order'])}
    assert given.model.test.to_dict() == dict(scales=(1.0,), flip=False, refine=SAM_AT_TEST['refine'])
