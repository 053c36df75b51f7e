"""The text of a config is Python again, whatever stands in it."""
import math
from pathlib import Path

import pytest
from mmengine.config import Config

from weclip_sam.engine import build_runner
from weclip_sam.engine.start.config_text import ReadableConfig, config_text

KEYS = ["lady's finger", 'double "quote"', 'back\\slash', 'line\nbreak', 'both \' and "', 'class', 'None', '', ' ',
        'naïve', '{brace}', '#', 'tab\t', '\u2028', 7, (1, 'a')]


def run(text):
    values = {}
    exec(text, values)
    values.pop('__builtins__')
    return values


@pytest.mark.parametrize('key', KEYS, ids=repr)
def test_any_key_comes_back(key):
    values = dict(model=dict(type='A', prompt_names={key: 'okra', 'cup': [key]}), rest=[{key: {}}, ({key: 1},)])
    assert run(config_text(values)) == values


def test_any_value_comes_back():
    values = dict(a=[1, (2,), (), [], {}, None, True, 1e-5, -3, 'it\'s "x"\n', b'\x00'], e={1, 2}, f=set(),
                  b=dict(c=math.inf, d=-math.inf), g=[[dict(x=[dict(y='z' * 200)], w='v' * 60)]])
    assert run(config_text(values)) == values
    assert math.isnan(run(config_text(dict(a=math.nan)))['a'])
    odd = run(config_text(dict(path=Path('a/b'), kind=dict, what=len)))
    assert odd == dict(path='a/b', kind='builtins.dict', what=repr(len))


def test_lines_are_bounded_and_sorted():
    text = config_text(dict(b=1, a=dict(steps=[dict(type='GradCam', name='n' * 30, place='p' * 30)] * 4)))
    assert text.startswith('a = dict(') and text.endswith('b = 1\n') and max(map(len, text.splitlines())) <= 120


def test_a_run_dumps_a_config_that_is_read_again(toy_config, tmp_path):
    config = toy_config(custom_hooks=[], train_cfg__max_iters=1)
    config.names = {key: 'okra' for key in KEYS if isinstance(key, str)}
    runner = build_runner(config)
    runner.train()
    assert isinstance(runner.cfg, ReadableConfig)
    again = Config.fromfile(tmp_path / 'run' / 'toy_config.py')
    assert again.to_dict() == runner.cfg.to_dict() and again.names == config.names
