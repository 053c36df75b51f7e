"""The comparison: planning, running and continuing stages (of stub tools), and the report of what they leave."""
import base64
import dataclasses
import hashlib
import html.parser
import importlib.util
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from weclip_sam.comparison.experiment import load_experiment
from weclip_sam.comparison.html import to_html
from weclip_sam.comparison.report import to_json, to_markdown
from weclip_sam.comparison.results import collect, read_run
from weclip_sam.comparison.stages import _settings, is_finished, run_experiment, run_stage, why_stale
from weclip_sam.comparison.tables import incomplete, main_columns
from weclip_sam.comparison.values import PictureRow
from weclip_sam.datasets.shapes.reader import ShapesReader
from weclip_sam.datasets.shapes.scenes import CLASSES
from weclip_sam.engine import load_config
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.io.images import write_labels
from weclip_sam.io.locks import FolderLock

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs' / 'weclip' / 'weclip_tiny_400_shapes.py')
IMAGES = 4
SMALL = {'test_dataloader.dataset.reader.num_images': IMAGES, 'test_dataloader.dataset.reader.size': 48}
EXPERIMENT = '''
title = 'Shapes & <methods>'
root = ROOT
seeds = 2
tests = ['single', 'crf']
shared = [dict(name='first-seeds', tool='make_seeds', config=CONFIG)]
methods = [
    dict(name='Ours', note='one <stage>', stages=[dict(name='train', tool='train', config=CONFIG)],
         tuning=[dict(what='box 0.4', where='tune', how='grid')]),
    dict(name='Two-stage', uses=['first-seeds'], tests=['single'], stages=[
        dict(name='merged', tool='make_seeds', config=CONFIG, once=True, arguments=['--labels', '{first-seeds}']),
        dict(name='second', tool='train', config=CONFIG,
             options={'model.rfm_start': 3, 'train_dataloader.dataset.pixel_labels': '{merged}'})])]
pictures = dict(config=CONFIG, options=SMALL, count=2, extremes=1, focus='Ours')
terms = ['the same 400 images']
'''
# A tool that leaves what the real one leaves, and writes down how it was called.
STUB = '''
import json, sys
from pathlib import Path
tool, args = Path(__file__).stem, sys.argv[1:]
with open(Path(__file__).parent / 'calls.txt', 'a') as file:
    file.write(json.dumps([tool, *args]) + chr(10))
folder = Path(args[args.index('--out' if tool == 'make_seeds' else '--work-dir') + 1])
assert folder.is_dir()
if (Path(__file__).parent / ('break_' + folder.name)).exists():
    sys.exit('error: broken on purpose')
seed = int(args[args.index('--seed') + 1]) if '--seed' in args else 0
if tool == 'test':
    seed = int('seed1' in args[1])
classes = dict(background=dict(IoU=90.0), bird=dict(IoU=40.0 + 2 * seed), boat=dict(IoU=None))
summary = dict(wall_seconds=100.0 + 10 * seed, peak_memory_gb=dict(process=1.5), device='two CPUs')
if tool == 'train':
    (folder / 'iter_9.pth').write_text('old')
    (folder / 'iter_10.pth').write_text('new')
    (folder / 'last_checkpoint').write_text('/somewhere/else/iter_10.pth')
    summary.update(trained_parameters=2_000_000, val=dict(mIoU=1.0, classes=classes),
                   train_seeds={'pseudo labels': 70.0 + seed, 'seconds': 40.0, 'stages': {'gradcam': 45.0}})
elif tool == 'test':
    assert Path(args[1]).read_text() == 'new', args[1]
    summary.update(test=dict(mIoU=(80.0 if '--crf' in args else 75.0) + seed, classes=classes))
else:
    summary.update(wall_seconds_of_all_runs=33.0, evaluation=dict(mIoU=60.0 + 5 * ('--labels' in args)), failed={})
(folder / ('summary_test.json' if tool == 'test' else 'summary.json')).write_text(json.dumps(summary))
'''


def write_tools(folder):
    (folder / 'tools').mkdir()
    for name in ('train', 'test', 'make_seeds', 'make_masks'):
        (folder / 'tools' / f'{name}.py').write_text(STUB)
    return folder / 'tools'


def write_experiment(folder):
    path = folder / 'experiment.py'
    path.write_text(EXPERIMENT.replace('CONFIG', repr(CONFIG)).replace('SMALL', repr(SMALL))
                    .replace('= ROOT', f'= {str(folder / "runs")!r}'))
    return path


@pytest.fixture
def tools(tmp_path):
    return write_tools(tmp_path)


@pytest.fixture
def experiment_file(tmp_path):
    return write_experiment(tmp_path)


def load_tool():
    tool = importlib.import_module('weclip_sam.cli.compare')
    return tool


def calls(tools):
    path = tools / 'calls.txt'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def value(call, key):
    return call[call.index(key) + 1]


def predict(folder, wrong):
    """Predictions for the pictures' images: the truth, with a share of the columns turned into background."""
    reader = ShapesReader('val', IMAGES, 48)
    for index, record in enumerate(reader.records):
        labels = reader.load_ground_truth(index).copy()
        labels[:, :int(48 * wrong[index])] = 0
        write_labels(folder / 'predictions' / f'{record.image_id}.png', labels)


def test_stages_run_once_in_order_and_go_on_after_a_failure(experiment_file, tools, tmp_path, capsys):
    experiment, runs = load_experiment(experiment_file), tmp_path / 'runs'
    (tools / 'break_second').touch()
    report = run_experiment(experiment, tools)
    made = [(call[0], Path(value(call, '--out' if call[0] == 'make_seeds' else '--work-dir')).relative_to(runs))
            for call in calls(tools)]
    assert made == [(tool, Path(folder)) for tool, folder in [
        ('train', 'ours/seed0/train'), ('test', 'ours/seed0/test-single'), ('test', 'ours/seed0/test-crf'),
        ('make_seeds', 'shared/first-seeds'), ('make_seeds', 'two-stage/once/merged'),
        ('train', 'two-stage/seed0/second'),
        ('train', 'ours/seed1/train'), ('test', 'ours/seed1/test-single'), ('test', 'ours/seed1/test-crf'),
        ('train', 'two-stage/seed1/second')]]
    first, test, seeds, merged, second = (calls(tools)[i] for i in (0, 2, 3, 4, 9))
    assert value(first, '--seed') == '0' and value(second, '--seed') == '1'
    assert test[2].endswith('ours/seed0/train/iter_10.pth') and '--tta' in test and '--crf' in test
    assert '--evaluate' in seeds and value(merged, '--labels') == str(runs / 'shared' / 'first-seeds')
    assert second[-2:] == ['model.rfm_start=3', f'train_dataloader.dataset.pixel_labels={runs}/two-stage/once/merged']
    assert sorted(report.failed) == [str(runs / f'two-stage/seed{seed}/second') for seed in (0, 1)]
    assert 'broken on purpose' in report.failed[str(runs / 'two-stage/seed0/second')]
    assert [Path(s).relative_to(runs).as_posix() for s in report.skipped] == [
        'two-stage/seed0/test-single', 'two-stage/seed1/test-single']
    assert 'broken on purpose' in capsys.readouterr().err
    # The next time only what is missing runs; an attempt that was begun is resumed.
    (tools / 'break_second').unlink()
    (tools / 'calls.txt').unlink()
    again = run_experiment(experiment, tools)
    assert [call[0] for call in calls(tools)] == ['train', 'test'] * 2 and calls(tools)[0][-1] == '--resume'
    assert not again.failed and len(again.ran) == 4 and len(again.found) == 8
    record = json.loads((runs / 'two-stage/seed0/second/stage.json').read_text())
    assert record['finished'] and record['seconds'] > 0 and record['peak_memory_gb'] > 0.001
    assert all(is_finished(stage) for run in experiment.runs for stage in run.stages)


def test_results_of_another_command_are_not_taken_for_these(experiment_file, tools):
    run_experiment(load_experiment(experiment_file).only(['Ours']), tools)
    text = experiment_file.read_text()
    experiment_file.write_text(text.replace("tool='train', config=CONFIG)]".replace('CONFIG', repr(CONFIG)),
                                            f"tool='train', config={CONFIG!r}, options=dict(a=1))]"))
    with pytest.raises(ValueError, match=r'made by another command.*--cfg-options a=1.*Remove the folder'):
        run_experiment(load_experiment(experiment_file), tools)


def test_results_made_from_what_is_gone_are_not_taken(experiment_file, tools, tmp_path, monkeypatch, capsys):
    experiment, runs = load_experiment(experiment_file, seeds=1), tmp_path / 'runs'
    run_experiment(experiment, tools)
    shutil.rmtree(runs / 'ours' / 'seed0' / 'train')
    with pytest.raises(ValueError, match=r'test-single: was made from an earlier run of .*train\.(.|\n)*test-crf'):
        run_experiment(experiment, tools)
    ours = read_run(experiment.runs[0])
    assert not ours.val and 'earlier run' in ours.missing[1] and not read_run(experiment.runs[1]).missing
    for name in ('single', 'crf'):
        shutil.rmtree(runs / 'ours' / 'seed0' / f'test-{name}')
    assert len(run_experiment(experiment, tools).ran) == 3
    # An edited config: all that was made with it is stale.
    monkeypatch.setattr('weclip_sam.comparison.stages._settings', lambda config: 'other')
    assert 'have changed since' in read_run(experiment.runs[1]).missing[0]
    load_tool().main([str(experiment_file), '--list', '--seeds', '1'])
    out = capsys.readouterr().out
    assert out.count(' stale') == 7 and '  finished' not in out
    assert 'stale: what is there was made by other settings' in out


def test_a_killed_attempt_is_timed_and_resumed(experiment_file, tools):
    stage = load_experiment(experiment_file).runs[0].stages[0]
    stage.folder.mkdir(parents=True)
    (stage.folder / 'stage.log').write_text('so far')
    stage.record.write_text(json.dumps(dict(arguments=stage.arguments, seconds=5.0, began=time.time() - 100)))
    assert not run_stage(stage, tools) and calls(tools)[-1][-1] == '--resume'
    record = json.loads(stage.record.read_text())
    assert 105 <= record['seconds'] < 130 and record['attempts'] == 2 and record['cpu_seconds'] is None
    # Trainings count what all attempts added to the result: 100 s, and 40 of them scored labels.
    cost = read_run(load_experiment(experiment_file).runs[0]).stages[0]
    assert cost.seconds == 60 and cost.cpu_seconds is None


def test_a_killed_training_is_not_resumed_with_other_settings(experiment_file, tools):
    experiment = load_experiment(experiment_file)
    stage = experiment.runs[0].stages[0]
    stage.folder.mkdir(parents=True)
    stage.record.write_text(json.dumps(dict(arguments=stage.arguments, finished=False, seconds=5.0, settings='other')))
    assert why_stale(stage) == ''  # there is nothing that could be resumed
    (stage.folder / 'iter_5.pth').touch()
    with pytest.raises(ValueError, match=r'have changed since.*Remove the folder'):
        run_experiment(experiment, tools)
    assert not calls(tools)


def test_what_another_command_left_unfinished_is_begun_anew(experiment_file, tools):
    for stage in load_experiment(experiment_file).only(['Ours']).runs[0].stages[:2]:
        stage.folder.mkdir(parents=True)
        stage.record.write_text(json.dumps(dict(arguments=['of', 'before'], finished=False, seconds=5.0)))
        assert not why_stale(stage) and not run_stage(stage, tools) and calls(tools)[-1][-1] == '--overwrite'


def test_two_comparisons_do_not_run_in_one_root(experiment_file, tools, tmp_path, capsys):
    (tmp_path / 'runs').mkdir()
    with FolderLock(tmp_path / 'runs', 'comparison'), pytest.raises(SystemExit) as stop:
        load_tool().main([str(experiment_file), '--run'])
    assert stop.value.code == 2 and 'another comparison is writing there' in capsys.readouterr().err
    assert not list((tmp_path / 'runs').glob('*'))


def test_a_finished_run_of_ones_own_is_never_begun_again(experiment_file, tools):
    experiment = load_experiment(experiment_file, seeds=1).only(['Ours'])
    stage = experiment.runs[0].stages[0]
    assert not run_stage(stage, tools)
    stage.record.unlink()
    report = run_experiment(experiment, tools)
    assert report.found == [str(stage.folder)] and [call[0] for call in calls(tools)].count('train') == 1


def test_labels_without_a_score_have_none(experiment_file, tools, tmp_path):
    experiment = load_experiment(experiment_file, seeds=1)
    run_experiment(experiment, tools)
    two_stage = experiment.runs[1]
    merged = next(stage for stage in two_stage.stages if stage.name == 'merged')
    assert read_run(two_stage).seed_steps['merged'] == 65
    summary = json.loads(merged.summary.read_text())
    del summary['evaluation']
    merged.summary.write_text(json.dumps(dict(summary, not_scored='torn')))
    second = two_stage.stages[2]
    second.summary.write_text(json.dumps({k: v for k, v in json.loads(second.summary.read_text()).items()
                                          if k != 'train_seeds'}))
    result = read_run(two_stage)
    assert result.seeds_miou is None and result.seed_steps == {'first-seeds': 60}
    assert result.missing == ('merged: its labels are not scored. torn',)


def test_methods_without_the_one_in_focus(experiment_file, tools, tmp_path, monkeypatch):
    tool = load_tool()
    monkeypatch.setattr('weclip_sam.comparison.stages.run_experiment',
                        lambda experiment: run_experiment(experiment, tools))
    with pytest.raises(SystemExit) as stop:
        tool.main([str(experiment_file), '--run', '--seeds', '1', '--methods', 'Two-stage'])
    assert stop.value.code == 0 and (tmp_path / 'runs' / 'report.html').is_file()


@pytest.fixture(scope='module')
def comparison(tmp_path_factory):
    """Of stages that have run, one of them removed; nothing changes it."""
    folder = tmp_path_factory.mktemp('comparison')
    experiment = load_experiment(write_experiment(folder))
    run_experiment(experiment, write_tools(folder))
    predict(folder / 'runs/ours/seed0/test-single', [0.0, 0.2, 0.9, 0.1])
    predict(folder / 'runs/two-stage/seed0/test-single', [0.3, 0.0, 0.1, 0.1])
    shutil.rmtree(folder / 'runs/ours/seed1/test-crf')
    return collect(experiment, 'python tools/compare.py x')


def test_what_is_measured_and_what_is_not(comparison):
    cells = {column.title: [column.text(name) for name in ('Ours', 'Two-stage')] for column in main_columns(comparison)}
    assert cells == {
        'pseudo labels on train, mIoU': ['70.50 ± 0.71', '70.50 ± 0.71'],
        'val mIoU, single scale': ['75.50 ± 0.71', '75.50 ± 0.71'], 'val mIoU, multi-scale + flip': ['–', '–'],
        'val mIoU, multi-scale + flip + CRF': ['80.00', '–'], 'trained parameters': ['2.000 M', '2.000 M'],
        # 100 and 110 s of training without 40 s of scoring labels; twice 33 s of making labels, shared or not.
        'stages': ['1', '3'],
        'wall time': ['1 min 05 s ± 7.1 s', '2 min 11 s ± 7.1 s'], 'peak memory, GB': ['1.50', '1.50']}
    assert incomplete(comparison) == ['Ours, seed 1: test-crf has not run']
    assert [column.best() for column in main_columns(comparison)] == [set()] * 6 + [{'Ours'}, set()]
    assert comparison.about['machine'] == 'two CPUs'
    terms = dict(comparison.checked_terms)
    assert set(terms['training images'].values()) == {'ShapesReader, split train, num_images 400, size 112, seed 0'}
    data = json.loads(json.dumps(to_json(comparison)))
    run = data['measured']['Two-stage']['runs'][1]
    assert run['seed_steps'] == {'first-seeds': 60, 'merged': 65, 'gradcam': 45, 'labels taught': 71}
    assert run['seconds'] == 136 and len(data['published_not_measured_here']) > 15
    assert 'published' not in json.dumps(data['measured']).lower()


def test_markdown_keeps_measured_and_published_apart(comparison):
    text = to_markdown(comparison)
    measured, published = text.split('## Published figures (not measured here)')
    assert ('| Ours | 70.50 ± 0.71 | 75.50 ± 0.71 | – | 80.00 | 2.000 M | 1 | **1 min 05 s ± 7.1 s** | 1.50 |'
            in measured)
    assert 'Swin-L' not in measured and '| FMA-WSSS | multi | Mask2Former, Swin-L |' in published
    assert '| method | stages | backbone | extra model | multi-scale | CRF |' in published
    assert '| WeCLIP (multi-scale, CRF) | single | frozen CLIP ViT-B/16 | none | yes | yes |' in published
    assert '| Ours | box 0.4 | tune | grid |' in measured and '- Ours, seed 1: test-crf has not run' in measured
    assert '| bird | 41.0 ± 1.4 | 41.0 ± 1.4 |' in measured and '| boat | – | – |' in measured


class _Page(html.parser.HTMLParser):
    """Tags that are opened and closed properly, sources of pictures, and the text by section."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.sources, self.links, self.text, self.section = [], [], [], [], {}, ''

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == 'section':
            self.section = dict(attrs)['class']
        self.sources += [v for k, v in attrs if k in ('src', 'href')]
        self.links += [v for k, v in attrs if k == 'xlink:href']
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == 'section':
            self.section = ''

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, '') + data + ' '


def test_the_page_is_whole_escaped_and_needs_nothing_else(comparison):
    page, text = _Page(), to_html(comparison)
    page.feed(text)
    assert page.open == [] and page.tags.count('script') == 1 and 'link' not in page.tags
    # The browser runs this one script, by its digest, and nothing that got into the page by some name.
    script, = re.findall('<script>(.*?)</script>', text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in text
    assert page.sources and all(source.startswith('data:image/png;base64,') for source in page.sources)
    assert page.tags.count('svg') == 1 and page.links and all(link.startswith('#') for link in page.links)
    plain = re.sub(r' xmlns(:xlink)?="http://www.w3.org/[^"]*"|http-equiv|url\(#', '', text)  # names, not addresses
    assert 'http' not in plain and 'url(' not in plain
    assert 'Shapes &amp; &lt;methods&gt;' in text and 'one &lt;stage&gt;' in text and '<methods>' not in text
    assert 'Swin-L' in page.text['published'] and 'Swin-L' not in page.text['measured']
    assert 'Nothing in this table was measured here' in page.text['published']
    assert '75.50 ± 0.71' in page.text['measured'] and 'test-crf has not run' in page.text['warn']
    # Image, truth and two methods: 2 chosen rows, the best, the worst, furthest ahead, furthest behind.
    assert page.tags.count('img') == 6 * 4
    assert list(comparison.pictures)[1:] == ['Best of Ours', 'Worst of Ours', 'Ours furthest ahead of all others',
                                             'Ours furthest behind the best of the others']
    rows = {title: [row.caption.split(':')[0] for row in rows] for title, rows in comparison.pictures.items()}
    assert rows['Best of Ours'] == rows['Ours furthest ahead of all others'] == ['val_0_00000']
    assert rows['Worst of Ours'] == rows['Ours furthest behind the best of the others'] == ['val_0_00002']
    assert [title for title, _, _ in comparison.pictures['Best of Ours'][0].panels] == [
        'image', 'ground truth', 'Ours', 'Two-stage']
    assert comparison.pictures['Best of Ours'][0].panels[2][2] == '100'
    assert [name for name, _ in comparison.legend] == list(CLASSES)


def test_what_an_experiment_says_is_never_markup(comparison):
    """A name with every character that HTML, SVG or mathtext could take for its own, wherever a name is shown."""
    name = 'A "b" <i>&amp; $x_1$\''
    ours, other = comparison.methods
    runs = tuple(dataclasses.replace(run, seed_steps={name: 50.0}, class_iou={name: 50.0}, missing=(name,),
                                     stages=(dataclasses.replace(run.stages[0], name=name),)) for run in ours.runs)
    row = PictureRow(name, ((name, b'', name),))
    page, text = _Page(), to_html(dataclasses.replace(
        comparison, title=name, methods=(dataclasses.replace(ours, name=name, note=name, runs=runs), other),
        pictures={name: [row]}, legend=[(name, name)], tuning=[dict(method=name, what=name, where=name, how=name)],
        terms=[name], checked_terms=[(name, {name: name})], notes=[name], about={name: name}))
    page.feed(text)
    assert page.open == [] and '<i>' not in text
    # Main table 2, chart 1, legend 1, pictures 4, steps 2, classes 2, costs 2; in each it reads as it was written.
    assert page.text['measured'].count(name) == 14 and page.text['warn'].count(name) == 4
    # Title, head, terms, settings, notes, the legend below an enlarged picture.
    assert page.text[''].count(name) == 2 + 2 + 3 + 4 + 1 + 1


def test_without_pictures_there_is_no_script(comparison):
    text = to_html(dataclasses.replace(comparison, pictures={'none': []}))
    assert '<script' not in text and '<dialog' not in text and '<button' not in text


def test_pictures_are_enlarged_and_a_phone_can_read_the_page(comparison, tmp_path):
    headless = pytest.importorskip('headless')
    if headless.CHROMIUM is None:
        pytest.skip('no chromium here')
    page = tmp_path / 'report.html'
    page.write_text(to_html(comparison))
    with headless.Browser(tmp_path / 'profile', (420, 900)) as browser:
        for width in (420, 1280):
            browser.resize(width, 900)
            browser.open(page.as_uri())
            assert browser.run('document.documentElement.scrollWidth') == width  # tables scroll inside
            assert browser.run('Math.max(...[...document.querySelectorAll(".scroll")].map(s => s.scrollWidth))') > 420
            small, = browser.run('[document.querySelector("button.picture img").getBoundingClientRect().width]')
            browser.run('document.querySelectorAll("button.picture")[2].click()')
            browser.wait('document.querySelector("dialog[open] img").complete')
            large = browser.run('document.querySelector("dialog img").getBoundingClientRect().toJSON()')
            assert large['width'] > 2 * small and large['left'] >= 0 and large['right'] <= width
            assert large['bottom'] < 900 and browser.run('document.documentElement.scrollWidth') == width
            words = 'document.querySelector("dialog figcaption").textContent'
            assert browser.run(words).startswith('Ours, mIoU ')
            browser.press('ArrowRight')
            assert browser.run(words).startswith('Two-stage, mIoU ')
            browser.press('Escape')
            browser.wait('!document.querySelector("dialog").open')
            browser.wait('document.activeElement === document.querySelectorAll("button.picture")[3]')
        assert browser.errors == []


@pytest.mark.skipif(shutil.which('chromium') is None, reason='chromium is not installed')
def test_the_page_in_a_browser(comparison, tmp_path):
    page, shot = tmp_path / 'report.html', tmp_path / 'shot.png'
    page.write_text(to_html(comparison))
    done = subprocess.run(['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
                           '--hide-scrollbars', '--window-size=1280,2600', f'--user-data-dir={tmp_path / "profile"}',
                           f'--screenshot={shot}', page.as_uri()], capture_output=True, text=True, timeout=120)
    assert shot.is_file(), done.stderr[-2000:]
    from PIL import Image
    pixels = np.asarray(Image.open(shot).convert('RGB')).astype(int)
    assert pixels.shape == (2600, 1280, 3)
    assert (pixels.min(-1) < 100).any(1).sum() > 800  # lines with ink on them
    assert (np.ptp(pixels, -1) > 60).sum() > 20_000  # pictures: strong colours


def test_the_tool_reports_and_its_exit_code_tells(experiment_file, tools, tmp_path, monkeypatch, capsys):
    tool = load_tool()
    monkeypatch.setattr('weclip_sam.comparison.stages.run_experiment',
                        lambda experiment: run_experiment(experiment, tools))
    (tools / 'break_second').touch()
    with pytest.raises(SystemExit) as stop:
        tool.main([str(experiment_file), '--run', '--no-pictures', '--seeds', '1'])
    out = capsys.readouterr().out
    assert stop.value.code == 1 and out.count('Two-stage, seed 0: second failed or was stopped') == 1
    assert out.count('not complete: ') == 1
    assert '| Ours |' in out and 'Swin-L' not in out
    files = [tmp_path / 'runs' / f'report.{kind}' for kind in ('html', 'md', 'json')]
    assert all(file.is_file() for file in files)
    before = len(calls(tools))
    with pytest.raises(SystemExit) as stop:
        tool.main([str(experiment_file), '--collect', '--no-pictures', '--seeds', '1', '--out', str(tmp_path / 'else'),
                   '--methods', 'Ours'])
    assert stop.value.code == 0 and len(calls(tools)) == before and (tmp_path / 'else' / 'report.html').is_file()
    tool.main([str(experiment_file), '--list'])
    listed = capsys.readouterr().out
    assert 'python tools/' not in listed and '\nOurs [ours]: one <stage>\n' in listed
    assert re.search(r'second +1 stopped, 1 to do', listed) and re.search(r'first-seeds +finished', listed)
    tool.main([str(experiment_file), '--list', '--commands', '--methods', 'two-stage'])
    listed = capsys.readouterr().out
    assert 'Ours' not in listed and listed.count('      python tools/train.py') == 2


@pytest.mark.parametrize('change, message', [
    (("seeds = 2", "seedz = 2"), "unknown key 'seedz'. Did you mean 'seeds'"),
    (("uses=['first-seeds']", "uses=['frist-seeds']"), "Did you mean 'first-seeds'"),
    (("'{first-seeds}'", "'{first}'"), "'{first}' is no earlier stage. Did you mean 'first-seeds'"),
    (("tool='train'", "tool='trian'"), "Did you mean 'train'"),
    (("tests=['single']", "tests=['singel']"), "Did you mean 'single'"),
    (("name='merged'", "name='first-seeds'"), "two stages are called 'first-seeds'"),
    (("name='Two-stage', ", ""), 'a method has no name'),
    (("name='Two-stage'", "name='Ours'"), 'two methods have the same name'),
    (("name='Two-stage'", "name='ours!'"), "'Ours' and 'ours!' would share the folder ours"),
    (("seeds = 2", "seeds = 0"), 'at least 1'), (("methods = [", "methods = [] and ["), 'names no methods'),
    (("name='second'", "name='second stage'"), 'a name begins with a letter'),
    (("note=", "nota="), "Did you mean 'note'")])
def test_slips_in_an_experiment_file_are_named(experiment_file, change, message):
    text = experiment_file.read_text()
    assert change[0] in text
    experiment_file.write_text(text.replace(*change))
    with pytest.raises(ValueError) as error:
        load_experiment(experiment_file)
    assert message in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize('name, seeds, methods', [('shapes', 3, 15), ('shapes_deeplab', 1, 3),
                                                    ('shapes_joins', 1, 6), ('shapes_unseen', 1, 5), ('voc', 1, 6)])
def test_the_shipped_comparisons_are_ready_to_run(name, seeds, methods, monkeypatch, tmp_path):
    """Every stage's config exists and takes its options, nothing points at another stage's folder by accident."""
    monkeypatch.chdir(ROOT)
    experiment = load_experiment(f'configs/compare/{name}.py', root=tmp_path)
    assert experiment.seeds == seeds and len(experiment.methods) == methods
    assert experiment.tuning or name != 'shapes'
    stages = list(dict.fromkeys(stage for run in experiment.runs for stage in run.stages))
    assert len({stage.folder for stage in stages}) == len(stages) > 10
    read_already = set()
    for stage in stages:
        given = [*stage.arguments, '--cfg-options']
        options = [a for a in given[given.index('--cfg-options') + 1:] if '=' in a]
        if ('seed0' in str(stage.folder) or stage.shared) and (given[0], *options) not in read_already:
            read_already.add((given[0], *options))  # a method's tests read what its training does
            config = load_config(given[0], options)
            fill_shared_settings(config)
            read = dict(train=('model', 'train_dataloader', 'custom_hooks'), make_seeds=('model', 'mask_bank'))
            parts = [config.get(key) for key in read.get(stage.tool, ())]
            if stage.name != 'clip-es' and name != 'shapes_joins':  # the main job's masks serve all joins
                text = json.dumps(parts, default=str)
                if name == 'shapes_deeplab':  # masks and seeds of the large comparison
                    text = text.replace('work_dirs/compare/shapes/shared/', '')
                assert 'work_dirs' not in text, stage
    terms = collect(experiment, pictures=False).checked_terms
    assert {what for what, _ in terms} == {'training images', 'evaluated images', 'frozen CLIP (where used)',
                                           'frozen SAM (where used)'}
    assert all(len(set(values.values())) == 1 for _, values in terms)


def test_a_stage_is_told_by_what_a_run_has_not_by_where_a_config_says_it(experiment_file, tools, tmp_path):
    """Stages that ran when every part had its own copy of the bank, and leaves listed the curriculum's hook."""
    leaf = tmp_path / 'leaf.py'
    head = ("model = dict(type='WeClip')\nmask_bank = 'b'\nmask_generator = dict(points_per_side=4)\n"
            "seed_dataset = dict(with_masks=True)\n")
    copied = head + ("train_dataloader = dict(dataset=dict(mask_bank=mask_bank))\ncustom_hooks = [\n"
                     "dict(type='MaskBankHook', bank=mask_bank, generator=mask_generator),\n"
                     "dict(type='CurriculumHook'), dict(type='SeedEvalHook', dataset=seed_dataset)]\n")
    once = head + ("train_dataloader = dict(dataset=dict(mask_bank=True))\n"
                   "custom_hooks = [dict(type='MaskBankHook'), dict(type='SeedEvalHook')]\n")
    leaf.write_text(copied)
    stage = load_experiment(experiment_file).runs[0].stages[0]
    repeated = ['train_dataloader.dataset.mask_bank=m',
                'custom_hooks.{}.bank=m', 'custom_hooks.{}.dataset.mask_bank=m']
    before = dataclasses.replace(stage, arguments=(
        str(leaf), *stage.arguments[1:], '--cfg-options', 'mask_bank=m', *(text.format(2) for text in repeated)))
    assert run_stage(before, tools) == ''
    now = dataclasses.replace(before, arguments=before.arguments[:-len(repeated)])
    for text, changed in ((copied, False), (once, False), (once.replace("'b'", "'c'"), True),
                          (once.replace('=4', '=5'), True), (once.replace(", dict(type='SeedEvalHook')", ''), True)):
        leaf.write_text(text)
        _settings.cache_clear()
        assert ('have changed since' in why_stale(now)) == changed, text
    other = dataclasses.replace(now, arguments=(*now.arguments, 'train_dataloader.dataset.mask_bank=other'))
    assert 'made by another command' in why_stale(other)


@pytest.mark.parametrize('path', ['weclip/weclip_tiny_400_shapes.py', 'sepl/sepl_tiny_free_shapes.py'])
def test_a_config_is_no_experiment(path):
    with pytest.raises(ValueError, match=r'no experiment file.*expected one of configs/compare/\*\.py'):
        load_experiment(ROOT / 'configs' / path)


def test_missing_files_and_pictures_are_named(experiment_file, tools, tmp_path):
    with pytest.raises(FileNotFoundError, match="Did you mean '.*experiment.py'"):
        load_experiment(experiment_file.with_name('experimnt.py'))
    path = tmp_path / 'slip.py'
    path.write_text(experiment_file.read_text().replace("focus='Ours'", "focus='Our'"))
    with pytest.raises(ValueError, match="Did you mean 'Ours'"):
        load_experiment(path)
    for slip, message in ((('count=2', 'cuont=2'), "'count'"),
                          (('count=2', "ids=['val_0_0000']"), "no image is called 'val_0_0000'")):
        path.write_text(experiment_file.read_text().replace(*slip))
        run_experiment(load_experiment(path).only(['Ours']), tools)
        predict(tmp_path / 'runs/ours/seed0/test-single', [0.0] * IMAGES)
        with pytest.raises(ValueError, match=message):
            collect(load_experiment(path))


def test_cpu_time_without_scoring(experiment_file, tools):
    experiment = load_experiment(experiment_file, seeds=1)
    run_experiment(experiment, tools)
    stage = experiment.runs[0].stages[0]
    record, summary = json.loads(stage.record.read_text()), json.loads(stage.summary.read_text())
    assert 0 < record['cpu_seconds'] < 60
    stage.record.write_text(json.dumps({**record, 'cpu_seconds': 90.0}))
    for scoring, gpu, expected in ((12.0, {}, 78.0), (None, {}, None), (12.0, {'cuda': 3.0}, None)):
        labels = {key: value for key, value in {**summary['train_seeds'], 'cpu_seconds': scoring}.items() if value}
        stage.summary.write_text(json.dumps({**summary, 'train_seeds': labels, 'peak_memory_gb': gpu}))
        assert read_run(experiment.runs[0]).cpu_seconds == expected
    columns = {column.title: column for column in main_columns(collect(experiment, pictures=False))}
    assert 'CPU time' not in columns or columns['CPU time'].text('Ours') == '–'


def test_references_do_not_compete(comparison):
    ours, other = comparison.methods
    better = dataclasses.replace(other, runs=tuple(dataclasses.replace(run, seeds_miou=99.0) for run in other.runs))
    rows = dataclasses.replace(comparison, methods=(ours, better))
    assert main_columns(rows)[0].best() == {'Two-stage'} and '**99.00**' in to_markdown(rows)
    rows = dataclasses.replace(comparison, methods=(ours, dataclasses.replace(better, reference=True)))
    assert main_columns(rows)[0].best() == set() and '**99.00**' not in to_markdown(rows)
    assert '<tr class="reference"><td>Two-stage' in to_html(rows)
