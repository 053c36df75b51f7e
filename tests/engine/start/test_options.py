"""Options of a command line become what their place in the config takes."""
import inspect
from pathlib import Path

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from weclip_sam.engine import load_config
from weclip_sam.engine.start.config import READ
from weclip_sam.engine.start.kinds import check_kinds, kinds_of, registered, takes
from weclip_sam.engine.start.options import RUNNER_KEYS, apply_options, parse_options

TEXT = """
custom_imports = dict(imports=['json'])  # a module of the user's own may read any variable
data_root = 'data/photos'
mask_bank = 'banks/one'
train_split = 'all'
layers = 33
own_folder = 'somewhere'
off = None
model = dict(type='SeedMaker', templates=['a {}'], seeds=[], clip=dict(type='FrozenClip', checkpoint='openai'))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='ImageLabelDataset', mask_bank=True, reader=dict(type='FolderReader', data_root=data_root, split=train_split)))
val_cfg = dict()
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
mask_generator = dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))
custom = dict(type='NobodyKnowsIt', checkpoint='x.pth', number=3)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', save_best='mIoU'),
                     guard=dict(type='CheckpointGuardHook'))
"""
ROOT = Path(__file__).resolve().parents[3]
LOOKS = ['2024', '1e5', '1_000', 'true', 'False', '12#3', 'cups,balls', '[new]', '1,2', '(1, 2)', '-3', '0x10', '...']


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'leaf.py'
    path.write_text(TEXT)
    return path


def get(config, key):
    node = config
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    return node


@pytest.mark.parametrize('text', LOOKS)
@pytest.mark.parametrize('key', ['data_root', 'mask_bank', 'train_split', 'load_from', 'work_dir', 'custom.checkpoint',
                                 'model.clip.checkpoint', 'mask_generator.sam.checkpoint', 'experiment_name',
                                 'train_dataloader.dataset.reader.data_root', 'train_dataloader.dataset.reader.labels'])
def test_a_path_or_a_name_is_the_text_that_was_typed(config, key, text):
    assert get(load_config(config, [f'{key}={text}']), key) == text


def test_a_typed_folder_reaches_the_settings_copied_from_it(config):
    loaded = load_config(config, ['data_root=2024', 'train_split=7'])
    assert (loaded.train_dataloader.dataset.reader.data_root, loaded.train_dataloader.dataset.reader.split) == (
        '2024', '7')


@pytest.mark.parametrize('option, value', [
    ('layers=5', 5), ('model.templates=[one {},two {}]', ['one {}', 'two {}']), ('mask_bank=None', None),
    ('default_hooks.checkpoint.save_best=None', None), ('default_hooks.guard=None', None), ('load_from=None', None),
    ('train_dataloader.dataset.reader.classes=cup,ball', ['cup', 'ball']), ('custom.number=7', 7), ('log_level=10', 10),
    ('train_dataloader.dataset.mask_bank=None', None), ('train_dataloader.dataset.reader.val_fraction=0.5', 0.5),
    ("own_folder=['a','b']", ['a', 'b']), ('own_folder=2', '2'), ("data_root='2024'", '2024'),
    ('data_root=None', 'None'), ('train_dataloader.dataset.reader.split=None', 'None'), ('model.clip=None', None),
    ('mask_generator.sam.checkpoint=None', 'None'), ('model.templates.0=5', '5'),
    ("mask_generator.sam.arch={'depth': 2, '_delete_': True}", {'depth': 2})])
def test_other_values_are_what_they_look_like(config, option, value):
    assert get(load_config(config, [option]), option.partition('=')[0]) == value


def test_without_a_config_values_are_literals_but_no_comment_is_cut_off():
    assert parse_options(['a=2024', 'b=12#3', "c='x#y'", 'd=[1,2]']) == dict(a=2024, b='12#3', c='x#y', d=[1, 2])


@pytest.mark.parametrize('key', ['pin_memory', 'drop_last', 'prefetch_factor', 'multiprocessing_context', 'timeout',
                                 'persistent_workers', 'num_batch_per_epoch'])
def test_what_a_loader_knows_can_be_set(config, key):
    value = dict(multiprocessing_context='spawn').get(key, 1)
    loaded = load_config(config, [f'train_dataloader.{key}={value}'])
    assert loaded.train_dataloader[key] == value and (key == 'num_batch_per_epoch' or
                                                      key in inspect.signature(DataLoader).parameters)


@pytest.mark.parametrize('option', ['val_cfg.fp16=True', 'log_processor.num_digits=6', 'randomness.deterministic=True'])
def test_so_can_what_mmengines_untyped_settings_know(config, option):
    key, _, value = option.partition('=')
    assert str(get(load_config(config, [option]), key)) == value


@pytest.mark.parametrize('option, message', [
    ('train_dataloader.pin_memroy=True', "train_dataloader has no 'pin_memroy'. Did you mean 'pin_memory'"),
    ('val_cfg.fp61=True', "val_cfg has no 'fp61'. Did you mean 'fp16'")])
def test_misspelt_keys_of_those_name_the_nearest(config, option, message):
    with pytest.raises(ValueError, match=message):
        load_config(config, [option])


@pytest.mark.parametrize('line, message', [
    ('data_root = 2024', 'leaf.py: data_root: expected a path or a name, got the int 2024'),
    ('mask_bank = 1e5', 'mask_bank: expected a path or a name, got the float'),
    ('work_dir = 7', 'work_dir: expected a path or a name, got the int 7'),
    ("train_dataloader['dataset']['reader']['data_root'] = 3",
     'train_dataloader.dataset.reader.data_root: .* command line train_dataloader.dataset.reader.data_root=./3'),
    ("mask_generator['sam']['checkpoint'] = None", 'mask_generator.sam.checkpoint: expected a path or a name, got the'),
    ("mask_generator['points_per_side'] = 'many'", "points_per_side: expected int, got the text 'many'")])
def test_a_config_that_holds_a_number_for_a_path_is_told_so(config, line, message):
    config.write_text(f'{TEXT}{line}\n')
    with pytest.raises(ValueError, match=message):
        load_config(config)


@pytest.mark.parametrize('text', ['raise ZeroDivisionError', 'model = 1/0', 'import nothing_of_that_name',
                                  'model = {}["key"]', 'x = [][1]', 'assert False, "no"', 'x = "\udcff"', '\0'])
def test_whatever_a_config_raises_is_one_line_that_names_it(config, text):
    config.write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(ValueError, match='leaf.py: ') as caught:
        load_config(config)
    assert '\n' not in str(caught.value)


def owner(a: 'str | None', b: 'int | float' = 1, c: 'Sequence[str]' = (), d=3, e: 'Mapping[str, Any] | bool' = True,  # noqa: F821
          f: 'Any' = None, g: str = '', h: 'list[int] | str' = '', **rest: 'str'):  # noqa: F821
    """Annotations of all sorts."""


owner.__module__ = 'weclip_sam.somewhere'


def test_annotations_say_what_an_argument_takes():
    assert [kinds_of(owner, name) for name in 'abcdefgh'] == [
        {'str', 'None'}, {'int', 'float'}, {'Sequence'}, set(), {'Mapping', 'bool'}, {'Any'}, {'str'}, {'list', 'str'}]
    assert kinds_of(owner, 'rest') == kinds_of(owner, 'unknown') == kinds_of(None, 'a') == set()
    assert [takes({'str', 'None'}, value) for value in (None, 1, True, [1])] == [True, False, False, False]
    assert [takes({'list', 'str'}, value) for value in (None, [1], True)] == [False, True, False]
    assert kinds_of(DataLoader, 'timeout') == set()  # annotations of others may say too little
    assert registered('FolderReader').__name__ == 'FolderReader' and registered('os.system') is None


def test_options_that_are_a_dict_are_taken_as_they_are(config):
    loaded = load_config(config, {'layers': 4})
    apply_options(loaded, {'own_folder': 5})
    assert loaded.layers == 4 and loaded.own_folder == 5
    check_kinds(Config(dict(model=dict(type='ToySegmentor'), other=[1, None])), 'x')  # unknown types say nothing
    assert 'train_cfg' in RUNNER_KEYS


@pytest.mark.parametrize('leaf, option, meant', [
    ('weclip_sam/weclip-sam_tiny_400_folder.py', 'crop_size=96', r'itself: train_dataloader.dataset.pipeline.2.size='
     r'\.\.\.$'),
    ('weclip_sam/weclip-sam_vit-b16_5k_folder.py', 'val_split=x.txt', 'the setting that you mean itself'),
    ('weclip_sam/weclip-sam-agree_tiny_400_shapes.py', 'seeds.0.softmax=fma', r'itself: model.seeds=\.\.\.$')])
def test_a_variable_that_reaches_nothing_is_told_with_what_it_may_mean(leaf, option, meant):
    with pytest.raises(ValueError, match=f'no setting of this config is a copy.*{meant}'):
        load_config(ROOT / 'configs' / leaf, [option])


@pytest.mark.parametrize('leaf', ['weclip_sam/weclip-sam-agree_tiny_400_shapes.py', 'sepl/sepl_vit-h_free_folder.py'])
def test_every_variable_of_a_shipped_config_reaches_something_or_is_an_error(leaf):
    """Read by programs, copied, or refused: nothing else is left."""
    path = ROOT / 'configs' / leaf
    config = load_config(path)
    for name in sorted(set(config) - RUNNER_KEYS - READ):
        value = [*config[name], 1] if isinstance(config[name], list) else 1 if isinstance(config[name], int) else 'new'
        try:
            changed = load_config(path, {name: value})
        except ValueError as error:
            assert f'--cfg-options {name}: ' in str(error)
        else:
            assert any(changed[key] != config[key] for key in config if key != name), name
