"""A config says its mask bank, generator and seed images once; every part has them when a Runner or a check is made."""
import os

import pytest

from weclip_sam.checking.configs import quick_check
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.engine.hooks.seed_eval import SeedEvalHook
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.foundation.sam_eye import SamEye
from weclip_sam.offline.masks import MaskBankHook
from weclip_sam.registry import HOOKS

HEAD = """
mask_bank = 'banks/own'
mask_dataset = 'mine'
mask_generator = dict(type='MaskGenerator', points_per_side=4)
model = dict(type='X')
default_hooks = dict(sheets=dict(type='SheetHook'))
val_dataloader = dict(dataset=dict(reader=dict(split='val')))
"""
ONCE = HEAD + """
train_dataloader = dict(dataset=dict(reader=dict(split='train'), mask_bank=True))
seed_dataset = dict(reader=dict(split='train'), with_masks=True, mask_bank=True)
custom_hooks = [dict(type='MaskBankHook'), dict(type='SeedEvalHook', max_images=5)]
"""
# As configs were written before: every part has a copy of its own.
COPIES = HEAD.replace("dict(type='SheetHook')", "dict(type='SheetHook', mask_generator=mask_generator)") + """
train_dataloader = dict(dataset=dict(reader=dict(split='train'), mask_bank=mask_bank))
seed_dataset = dict(reader=dict(split='train'), with_masks=True, mask_bank=mask_bank)
custom_hooks = [dict(type='MaskBankHook', bank=mask_bank, generator=mask_generator, dataset='mine'),
                dict(type='SeedEvalHook', max_images=5, dataset=seed_dataset)]
"""


def read(tmp_path, text, options=None):
    (tmp_path / 'leaf.py').write_text(text)
    config = load_config(tmp_path / 'leaf.py', options)
    fill_shared_settings(config)
    return config.to_dict()


@pytest.mark.parametrize('options', [{}, {'mask_bank': 'banks/other'}, {'mask_generator.points_per_side': 7},
                                     {'mask_bank': 'banks/other', 'seed_dataset.limit': 3}])
def test_said_once_is_the_same_as_copied_everywhere(tmp_path, options):
    text = ONCE.replace("with_masks=True,", "type='ImageLabelDataset', with_masks=True,")
    copies = COPIES.replace("with_masks=True,", "type='ImageLabelDataset', with_masks=True,")
    config = read(tmp_path, text, options)
    assert config == read(tmp_path, copies, options)
    bank = options.get('mask_bank', 'banks/own')
    masks, seeds = config['custom_hooks']
    assert masks == dict(type='MaskBankHook', bank=bank, generator=config['mask_generator'], dataset='mine')
    assert seeds == dict(type='SeedEvalHook', max_images=5, dataset=config['seed_dataset'])
    assert config['train_dataloader']['dataset']['mask_bank'] == config['seed_dataset']['mask_bank'] == bank
    assert config['default_hooks']['sheets']['mask_generator'] == config['mask_generator']
    assert 'mask_bank' not in config['val_dataloader']['dataset']


def test_filling_twice_changes_nothing_and_parts_share_nothing(tmp_path):
    config = read(tmp_path, ONCE)
    before = repr(config)
    fill_shared_settings(config)
    assert repr(config) == before
    hook, _ = config['custom_hooks']
    hook['generator']['points_per_side'] = 99
    assert config['mask_generator']['points_per_side'] == 4


def test_what_a_part_says_itself_stays(tmp_path):
    text = ONCE.replace("dict(type='MaskBankHook')", "dict(type='MaskBankHook', bank='mine', dataset=None)") \
        .replace("dict(type='SheetHook')", "dict(type='SheetHook', mask_generator=None)") \
        .replace('max_images=5', "dataset=dict(type='Other')") \
        .replace("split='train'), mask_bank=True))", "split='train'), mask_bank='third'))")
    config = read(tmp_path, text)
    masks, seeds = config['custom_hooks']
    assert (masks['bank'], masks['dataset'], masks['generator']) == ('mine', None, config['mask_generator'])
    assert seeds['dataset'] == dict(type='Other') and config['default_hooks']['sheets']['mask_generator'] is None
    assert config['train_dataloader']['dataset']['mask_bank'] == 'third'
    assert config['seed_dataset']['mask_bank'] == 'banks/own'


@pytest.mark.parametrize('change', [("dict(type='MaskBankHook'), ", ''), ('val_dataloader = dict(', 'other = dict(')])
def test_sheets_segment_images_of_validation_alone_and_only_where_training_makes_masks(tmp_path, change):
    assert change[0] in ONCE
    assert read(tmp_path, ONCE.replace(*change))['default_hooks'] == dict(sheets=dict(type='SheetHook'))


def test_classes_in_place_of_names_are_known(tmp_path):
    hook = dict(type=MaskBankHook)
    fill_shared_settings(dict(mask_bank='b', custom_hooks=[hook, object(), None], default_hooks=dict(timer=None)))
    assert hook['bank'] == 'b'


def test_a_bank_that_nobody_names_is_an_error_with_a_remedy(tmp_path):
    text = ONCE.replace("mask_bank = 'banks/own'", '')
    message = r"train_dataloader\.dataset\.mask_bank=True means the config's own mask bank.*mask_bank='DIR' at its top"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
    config = load_config(tmp_path / 'leaf.py')
    finding = next(each for each in quick_check(config).errors if each.where == 'mask_bank')
    assert 'at its top' in finding.message
    assert read(tmp_path, ONCE, {'mask_bank': None})['train_dataloader']['dataset']['mask_bank'] is None


def test_parts_built_without_a_config_ask_for_what_they_lack(tmp_path):
    with pytest.raises(ValueError, match="no folder for the masks; give the config mask_bank='DIR'"):
        HOOKS.build(dict(type='MaskBankHook'))
    with pytest.raises(ValueError, match='give the config a seed_dataset'):
        SeedEvalHook()
    with pytest.raises(ValueError, match='a data set built alone needs the folder'):
        ImageLabelDataset(dict(type='ShapesReader', num_images=1), mask_bank=True)


def test_a_check_leaves_the_config_as_it_is(tmp_path):
    (tmp_path / 'leaf.py').write_text(ONCE)
    config = load_config(tmp_path / 'leaf.py')
    before = config.to_dict()
    quick_check(config)
    assert config.to_dict() == before


SCENES = """
scenes_seed = 0
model = dict(type='X')
train_dataloader = dict(num_workers=0, dataset=dict(reader=dict(type='ShapesReader', split='train')))
seed_dataset = dict(reader=dict(type='ShapesReader', split='train', seed=3))
tune_dataset = dict(reader=dict(type='ShapesReader', split='tune'))
"""


def test_another_data_set_of_scenes_is_chosen_in_one_place(tmp_path):
    config = read(tmp_path, SCENES, ['scenes_seed=7'])
    assert [config[name]['reader']['seed'] for name in ('seed_dataset', 'tune_dataset')] == [3, 7]
    assert config['train_dataloader'] == dict(num_workers=0, dataset=dict(
        reader=dict(type='ShapesReader', split='train', seed=7)))
    with pytest.raises(ValueError, match='scenes_seed: expected a whole number'):
        read(tmp_path, SCENES, {'scenes_seed': -1})


def test_features_lie_beside_the_masks(tmp_path):
    for said, expected in ((True, {}), (dict(stride=8), dict(stride=8)), (dict(bank=True), {})):
        text = ''.join([ONCE, *(f'{part}["feature_bank"] = {said!r}\n'
                                for part in ('train_dataloader["dataset"]', 'seed_dataset'))])
        config = read(tmp_path, text, {'mask_bank': 'banks/other'})
        assert config['train_dataloader']['dataset']['feature_bank'] == config['seed_dataset']['feature_bank'] == \
            dict(bank=os.path.join('banks/other', 'features'), **expected)
    own = f'{ONCE}seed_dataset["feature_bank"] = dict(bank="mine", stride=8)\n'
    assert read(tmp_path, own)['seed_dataset']['feature_bank'] == dict(bank='mine', stride=8)
    with pytest.raises(ValueError, match=r"seed_dataset\.feature_bank means the features beside .* mask_bank='DIR'"):
        fill_shared_settings(dict(seed_dataset=dict(feature_bank=dict(stride=8))))


def test_the_eye_is_the_encoder_of_the_mask_generator(tmp_path):
    text = f'{ONCE}mask_generator["sam"] = dict(type="FrozenSam", arch="tiny")\n' \
           'model = dict(encoders=dict(a=dict(type="SamEye"), b=dict(type="SamEye", sam=dict(arch="x"))))'
    config = read(tmp_path, text, {'mask_generator.sam.arch': 'vit_l'})
    assert config['model']['encoders']['a']['sam'] == config['mask_generator']['sam'] == dict(type='FrozenSam',
                                                                                              arch='vit_l')
    assert config['model']['encoders']['b']['sam'] == dict(arch='x')
    with pytest.raises(ValueError, match='SamEye: whose encoder'):
        SamEye()
