"""Golden arrays: what the authors' public code gave for small random models (see the .md files beside the arrays).

Sizes, depths, grids and the number of images are read from the arrays; any folder of the same format will do.
"""
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from weclip_sam.foundation import FrozenClip
from weclip_sam.seeds.boxes import above_threshold
from weclip_sam.seeds.components import component_extents, connected_components

BLOCK = re.compile(r'sd/visual\.transformer\.resblocks\.(\d+)\.')


def _module(path: Path):
    spec = importlib.util.spec_from_file_location(f'golden_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_suite = _module(Path(__file__).parents[1] / 'conftest.py')
KEEP = _module(Path(__file__).with_name('make_subset.py')).KEEP


class Arrays(Mapping):
    """An .npz as a mapping from names to tensors (strings stay numpy).

    A test that needs an array which the subset leaves out (``make_subset.py``) is skipped; any other missing name is an
    error.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, np.load(path, allow_pickle=False)

    def __getitem__(self, key: str) -> torch.Tensor | np.ndarray:
        if key not in self.file:
            if self.path.stem not in KEEP or KEEP[self.path.stem].fullmatch(key):
                raise KeyError(f'{self.path} has no {key}')
            pytest.skip(f'{self.path} leaves out {key}')
        value = np.asarray(self.file[key])
        return value if value.dtype.kind == 'U' else torch.from_numpy(value.copy())

    def __iter__(self) -> Iterator[str]:
        return iter(self.file.files)

    def __len__(self) -> int:
        return len(self.file.files)

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """Arrays below ``prefix/``, by the rest of their names."""
        return {key[len(prefix) + 1:]: self[key] for key in self if key.startswith(prefix + '/')}


@functools.cache
def load_arrays(folder: Path, name: str) -> Arrays | None:
    path = folder / f'{name}.npz'
    return Arrays(path) if path.is_file() else None


def arrays_or_skip(folder: Path, name: str) -> Arrays:
    arrays = load_arrays(folder, name)
    if arrays is None:
        pytest.skip(f'{folder} has no {name}.npz')
    return arrays


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``es_image`` runs over the images of clip_es.npz, ``bbox_case`` over its stand-alone maps, ``eval_threshold``
    over its background scores; ``sample``, ``test_case`` and ``par_case`` over those of weclip.npz, ``cda_case``
    over those of cda.npz, ``excel_group`` over the batches of excel.npz."""
    folder = _suite.golden_folder(metafunc.config)
    for fixture, name, pattern in (('es_image', 'clip_es', '{}/image_uint8'), ('bbox_case', 'clip_es', 'bbox/{}/map'),
                                   ('eval_threshold', 'clip_es', 'eval_miou_{}'),
                                   ('sample', 'weclip', 'in/label_png_{}'), ('test_case', 'weclip', 'test/{}/label'),
                                   ('par_case', 'weclip', 'par/{}/image'), ('cda_case', 'cda', '{}/features'),
                                   ('excel_group', 'excel', '{}/attn')):
        if fixture in metafunc.fixturenames:
            arrays = load_arrays(folder, name) or {}
            before, after = pattern.split('{}')
            found = sorted({key[len(before):len(key) - len(after)] for key in arrays
                            if key.startswith(before) and key.endswith(after)})
            metafunc.parametrize(fixture, [each for each in found if '/' not in each])


@pytest.fixture(scope='session')
def clip_es(golden_dir: Path) -> Arrays:
    return arrays_or_skip(golden_dir, 'clip_es')


@pytest.fixture(scope='session')
def weclip(golden_dir: Path) -> Arrays:
    return arrays_or_skip(golden_dir, 'weclip')


@pytest.fixture(scope='session')
def cda(golden_dir: Path) -> Arrays:
    return arrays_or_skip(golden_dir, 'cda')


@pytest.fixture(scope='session')
def excel(golden_dir: Path) -> Arrays:
    return arrays_or_skip(golden_dir, 'excel')


@pytest.fixture(scope='session')
def weclip_plus(golden_dir: Path) -> Arrays:
    return arrays_or_skip(golden_dir, 'weclip_plus')


def has_whole_encoder(arrays: Arrays) -> bool:
    """Whether the blocks before the last one are there, too."""
    return any((match := BLOCK.match(key)) and int(match[1]) == 0 for key in arrays)


@pytest.fixture(scope='session')
def whole_encoder(clip_es: Arrays) -> None:
    """For tests that start from an image."""
    if not has_whole_encoder(clip_es):
        pytest.skip(f'{clip_es.path} holds the last block of the encoder alone')


PUBLISHED_SCALES = (1.0, 0.75)  # of WeCLIP's test_msc_flip_voc.py


def scales_of(arrays: Arrays, key: str) -> tuple[float, ...]:
    """The scales that an array was fused over: what its own group says (``fusion/scales`` is of ``fusion/...`` alone),
    else its line in the .md file beside the arrays, else the published ones."""
    groups = key.split('/')[:-1]
    for start in (0, 1):  # the inputs of fp32/test/... lie in test/...
        for end in range(len(groups), start, -1):
            name = '/'.join([*groups[start:end], 'scales'])
            if name in arrays.file:
                return tuple(arrays[name].tolist())
    description = arrays.path.with_suffix('.md')
    lines = description.read_text(encoding='utf-8').splitlines() if description.is_file() else []
    said = next((re.search(r'scales \[([\d., ]+)\]', line) for line in lines if line.startswith(f'| `{key}` |')), None)
    return tuple(map(float, said[1].split(','))) if said else PUBLISHED_SCALES


@pytest.fixture(scope='session')
def find_scales():
    return scales_of


def token_embedding(seed: int, width: int) -> torch.Tensor:
    """The recipe beside the arrays; every value is exact in float16."""
    values = np.random.RandomState(seed).randint(-2048, 2048, size=(49408, width)).astype(np.float32)
    return torch.from_numpy(values / np.float32(65536))


def write_openai_checkpoint(arrays: Arrays, path: Path) -> Path:
    """The small CLIP of a fixture as OpenAI publishes state dicts: in half precision but for the scale, with three
    extra integers. A subset may hold the encoder's last block alone: then that is the whole encoder."""
    arrays['sd/visual.proj']  # skips where the subset has no weights
    last = str(max(int(match[1]) for key in arrays if (match := BLOCK.match(key))))
    state = {}
    for key, value in arrays.under('sd').items():
        if not has_whole_encoder(arrays):
            key = key.replace(f'visual.transformer.resblocks.{last}.', 'visual.transformer.resblocks.0.')
        state[key] = value
    table = token_embedding(int(arrays['token_embedding_seed']), len(state['ln_final.weight']))
    grid = round((len(state['visual.positional_embedding']) - 1) ** 0.5)
    state['token_embedding.weight'] = table.half()
    state['input_resolution'] = torch.tensor(grid * state['visual.conv1.weight'].shape[-1])
    state['context_length'] = torch.tensor(len(state['positional_embedding']))
    state['vocab_size'] = torch.tensor(len(table))
    torch.save(state, path)
    return path


@pytest.fixture(scope='session')
def write_checkpoint():
    return write_openai_checkpoint


@pytest.fixture(scope='session')
def es_checkpoint(clip_es: Arrays, tmp_path_factory) -> str:
    return str(write_openai_checkpoint(clip_es, tmp_path_factory.mktemp('clip_es') / 'clip.pt'))


@pytest.fixture(scope='session')
def weclip_checkpoint(weclip: Arrays, tmp_path_factory) -> str:
    return str(write_openai_checkpoint(weclip, tmp_path_factory.mktemp('weclip') / 'clip.pt'))


class HalfPositionClip(FrozenClip):
    """FrozenClip with the authors' rounding of the position embedding to float16, which the package leaves out: for
    comparing everything after it as closely as it deserves."""

    def position_embedding(self, grid):
        return super().position_embedding(grid).half().float()


@pytest.fixture(scope='session')
def es_clip(es_checkpoint: str) -> FrozenClip:
    return FrozenClip('auto', es_checkpoint)


@pytest.fixture(scope='session')
def es_clip_rounded(es_checkpoint: str) -> FrozenClip:
    return HalfPositionClip('auto', es_checkpoint)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, atol: float, of_max: float = 0.0) -> None:
    """Absolute error at most ``atol``, or ``of_max`` times the largest expected value if that is given."""
    limit = of_max * expected.abs().max().item() if of_max else atol
    torch.testing.assert_close(actual.to(expected.dtype), expected, atol=limit, rtol=0)


@pytest.fixture(scope='session')
def close():
    return assert_close


def published_boxes(score_map: torch.Tensor, threshold: float) -> set[tuple[int, int, int, int]]:
    """The authors' list of boxes of an h w map, from what :func:`box_masks` is made of.

    They list holes, too, which lie inside a component's box and change no mask: OpenCV finds those.
    """
    foreground = above_threshold(score_map[None], threshold)
    first, last = component_extents(connected_components(foreground))
    height, width = score_map.shape
    corners = {(x0, y0, x1 + 1, y1 + 1) for y0, x0, y1, x1 in torch.cat([first[0], last[0]]).T.tolist() if y0 <= y1}
    background = (~foreground[0]).numpy().astype(np.uint8)
    for x, y, across, down, _ in cv2.connectedComponentsWithStats(background, connectivity=4)[2][1:].tolist():
        if x and y and x + across < width and y + down < height:  # a hole's contour runs on the pixels around it
            corners.add((x - 1, y - 1, x + across + 1, y + down + 1))
    return {(x0, y0, min(x1, width - 1), min(y1, height - 1)) for x0, y0, x1, y1 in corners} or {(0, 0, 0, 0)}


@pytest.fixture(scope='session')
def list_of_boxes():
    return published_boxes
