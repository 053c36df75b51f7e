"""Published figures as ``compare.py --published`` prints them: all of them, nothing else, each with its source."""
import json
from pathlib import Path

import pytest

import weclip_sam.comparison
from weclip_sam.cli import compare
from weclip_sam.comparison.published import HEAD

ROWS = json.loads(Path(weclip_sam.comparison.__file__).with_name('published.json').read_text(encoding='utf-8'))


def test_every_figure_is_printed_with_its_source(capsys):
    compare.main(['--published'])
    printed = capsys.readouterr().out
    assert 'None was measured here' in printed
    _, table, notes = printed.split('\n\n')
    head, rule, *lines = table.splitlines()
    assert head.split('  ')[0] == 'method' and set(rule) == {'-'} and len(lines) == len(ROWS['figures'])
    starts = [head.index(title) for title in HEAD]
    for line, row in zip(lines, ROWS['figures'], strict=True):
        figure = dict(zip(ROWS['columns'], row, strict=True))
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        assert cells[:2] == [figure['method'], figure['stages']]
        assert cells[6:9] == [figure[key] or '–' for key in ('voc_val', 'voc_test', 'coco_val')]
        assert cells[4:6] == [{None: '?', True: 'yes', False: 'no'}[figure[key]] for key in ('multi_scale', 'crf')]
        assert cells[9] == (f'published: {figure["paper"]}' if figure['paper'] else 'told by third parties')
        assert (f'  {figure["method"]}: ' in notes) == bool(figure['note'] or figure['seeds'])
        assert (figure['note'] or '') in notes and (figure['seeds'] or '').removeprefix('labels: ') in notes


@pytest.mark.parametrize('given, message', [
    (['shapes', '--published'], 'takes no experiment'), (['--list'], 'required: experiment'),
    (['shapes'], 'one of the arguments'), (['--published', '--list'], 'not allowed with')])
def test_what_needs_an_experiment_and_what_does_not(given, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        compare.main(given)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
