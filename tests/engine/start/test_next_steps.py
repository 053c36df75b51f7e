"""What a training says to type next: commands that take its checkpoint, or none."""
import re
import shlex
from types import SimpleNamespace

import pytest

from weclip_sam import commands
from weclip_sam.engine.start.next_steps import next_steps
from weclip_sam.models.prompt_tuning import PromptTuner
from weclip_sam.models.segmentor import Segmentor
from weclip_sam.models.weclip import WeClip

CHECKPOINT = 'work_dirs/my run/iter_400.pth'
FOLDER = dict(train_dataloader=dict(dataset=dict(reader=dict(type='FolderReader'))))
SHAPES = dict(train_dataloader=dict(dataset=dict(reader=dict(type='ShapesReader'))))


def of(kind, **attributes):
    """A model of that class which is built of nothing."""
    model = kind.__new__(kind)
    model.__dict__.update(_parameters={}, _buffers={}, _modules={}, **attributes)
    return model


ONLINE, OFFLINE = SimpleNamespace(), None


@pytest.mark.parametrize('kind, attributes, config, tools', [
    (WeClip, dict(seeds=ONLINE), FOLDER, ['make_labels', 'predict']),
    (WeClip, dict(seeds=ONLINE), SHAPES, ['make_labels', 'review']),
    (WeClip, dict(seeds=OFFLINE), FOLDER, ['predict']), (WeClip, dict(seeds=OFFLINE), SHAPES, []),
    (Segmentor, {}, FOLDER, ['predict']), (PromptTuner, {}, FOLDER, []),
    (WeClip, dict(seeds=ONLINE), FOLDER | dict(custom_imports=dict(imports=['mine'])), [])])
def test_commands_for_what_was_trained(kind, attributes, config, tools):
    said = list(next_steps(of(kind, **attributes), config, CHECKPOINT).values())
    assert [re.match(r'python tools/(\w+).py ', line)[1] for line in said] == tools
    for line in said:
        assert shlex.split(line)[2] == ('work_dirs/my run/labels' if 'review' in line else CHECKPOINT)


def test_they_are_typed_as_the_training_was(monkeypatch):
    monkeypatch.setenv(commands.DOOR, 'weclip-sam')
    labels, predict = next_steps(of(WeClip, seeds=ONLINE), FOLDER, 'w/iter_4.pth').values()
    assert labels == 'weclip-sam make-labels w/iter_4.pth --out w/labels'
    assert predict == 'weclip-sam predict w/iter_4.pth PHOTOS --out w/predictions'
