"""Fully connected CRF with Gaussian edges (Kraehenbuehl and Koltun, NIPS 2011), refined by mean field.

Per iteration ``Q <- softmax(log p + sum_k w_k D_k^-1/2 K_k D_k^-1/2 Q)`` with the two kernels (i = j included, as the
reference implementation has it; D_k holds the row sums of K_k)::

    gaussian    exp(-|xy_i - xy_j|^2 / 2 gaussian_sxy^2)
    bilateral   exp(-|xy_i - xy_j|^2 / 2 bilateral_sxy^2 - |rgb_i - rgb_j|^2 / 2 bilateral_srgb^2)

This is an offline step: it may work on the host, image by image. Do not put it into a training step.
"""
from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.registry import SEED_STEPS
from weclip_sam.seeds.permutohedral import PermutohedralFilter
from weclip_sam.seeds.scores import background_score, min_max, resize_maps, with_background
from weclip_sam.structures import IGNORE_LABEL, SeedState, foreground_label

BACKENDS = ('auto', 'pydensecrf', 'lattice', 'exact')
PROBABILITY_FLOOR = 1e-5  # as in the reference implementation's unary_from_softmax
COLOURS = ('rgb', 'wrapped')
MEAN_COLOUR = (122.675, 116.669, 104.008)  # red, green, blue, as the authors subtract them
EXACT_ROWS = 1 << 24      # kernel entries computed at a time by the exact backend
Filter = Callable[[Tensor], Tensor]


def dense_crf(rgb: Tensor | np.ndarray, probabilities: Tensor | np.ndarray, iterations: int = 10,
              gaussian_sxy: float = 1, gaussian_compat: float = 3, bilateral_sxy: float = 67,
              bilateral_srgb: float = 3, bilateral_compat: float = 4, backend: str = 'auto',
              colours: str = 'rgb') -> Tensor:
    """Refine one image's class probabilities. The defaults are CLIP-ES's; WeCLIP tests with (3, 3, 64, 5, 4).

    Args:
        rgb: H W 3, 0..255.
        probabilities: C H W, non-negative; need not sum to one (mean field normalises them).
        iterations: of mean field; 0 returns the normalised input.
        gaussian_sxy, bilateral_sxy: standard deviations in pixels; bilateral_srgb in grey levels.
        gaussian_compat, bilateral_compat: Potts weights.
        backend: ``pydensecrf`` (optional, C++), ``lattice`` (this package's own, tensor operations only, on the
            device of ``probabilities``), ``exact`` (all pairs, O(pixels^2): small images or a GPU), or ``auto``:
            pydensecrf when it is installed, else lattice.
        colours: ``rgb`` as they are, or ``wrapped`` as in the authors' evaluation scripts: mean colours are subtracted
            and what is negative wraps around in a byte, so that dark and light meet (0.5 to 1.2 % of the labels).

    Returns:
        C H W float32 marginals that sum to one over C, on the device of ``probabilities``.

    Accuracy: lattice and pydensecrf both approximate the bilateral kernel on the permutohedral lattice; lattice takes
    the spatial kernel exactly. On VOC photographs (3 and 21 channels, default settings) the two gave the same label
    to all but 0.09-0.19 % of the pixels, mean |difference of marginals| < 0.001, while the CRF changed 12-26 % of the
    labels. Against all pairs on 24x32 and 48x64 scenes with flat colours plus noise of 0 / 3 / 10 grey levels, lattice
    differed in up to 0.5 / 0.5 / 4.0 % of the labels (mean marginal 0.003 / 0.005 / 0.026), and pydensecrf in as many.
    A photograph of 500x375 takes 1.1 s of one core with 3 channels and 3.1 s with 21, two to three times pydensecrf's.

    Raises:
        ValueError: for shapes that disagree, unknown backends, non-positive deviations.
        ImportError: when pydensecrf was asked for and is not installed, with the way to get it.
    """
    rgb, probabilities = torch.as_tensor(rgb), torch.as_tensor(probabilities)
    _check(dict(gaussian_sxy=gaussian_sxy, bilateral_sxy=bilateral_sxy, bilateral_srgb=bilateral_srgb), iterations,
           backend, colours)
    if probabilities.ndim != 3 or tuple(rgb.shape) != (*probabilities.shape[1:], 3):
        raise ValueError(f'dense CRF: expected rgb H W 3 and probabilities C H W, got {tuple(rgb.shape)} and '
                         f'{tuple(probabilities.shape)}; resize the probabilities to the image first')
    if colours == 'wrapped':
        rgb = wrapped_colours(rgb)
    backend = resolve_backend(backend)
    settings = dict(gaussian_sxy=gaussian_sxy, gaussian_compat=gaussian_compat, bilateral_sxy=bilateral_sxy,
                    bilateral_srgb=bilateral_srgb, bilateral_compat=bilateral_compat)
    if backend == 'pydensecrf':
        return _pydensecrf(rgb, probabilities, iterations, **settings)
    with torch.autocast(probabilities.device.type, enabled=False):
        return _mean_field(rgb, probabilities, iterations, exact=backend == 'exact', **settings)


_SETTINGS = {name: each.default for name, each in inspect.signature(dense_crf).parameters.items()
             if each.default is not each.empty}


def resolve_backend(backend: str = 'auto') -> str:
    """What ``auto`` means here: pydensecrf where it is installed, else ``lattice``."""
    if backend != 'auto':
        return backend
    return 'pydensecrf' if importlib.util.find_spec('pydensecrf') else 'lattice'


def wrapped_colours(rgb: Tensor) -> Tensor:
    """H W 3 colours as the authors' scripts hand them to the CRF: ``uint8(rgb - mean)``, which wraps below zero."""
    mean = torch.tensor(MEAN_COLOUR, device=rgb.device)
    return (rgb.float() - mean).trunc() % 256


def check_settings(settings: Mapping[str, Any]) -> None:
    """Whether :func:`dense_crf` takes these keyword arguments, without an image.

    Raises:
        ValueError: an unknown name, with the nearest known one, or a value out of range.
    """
    for name in settings:
        if name not in _SETTINGS:
            raise ValueError(f'dense CRF: there is no setting {name!r}.{suggest_name(str(name), _SETTINGS)} Known: '
                             f'{", ".join(_SETTINGS)}')
    given = {**_SETTINGS, **settings}
    _check({name: given[name] for name in ('gaussian_sxy', 'bilateral_sxy', 'bilateral_srgb')}, given['iterations'],
           given['backend'], given['colours'])


def _check(deviations: dict[str, float], iterations: int, backend: str, colours: str) -> None:
    if colours not in COLOURS:
        raise ValueError(f'dense CRF colours: expected one of {COLOURS}, got {colours!r}.'
                         f'{suggest_name(str(colours), COLOURS)}')
    if backend not in BACKENDS:
        raise ValueError(f'dense CRF backend: expected one of {BACKENDS}, got {backend!r}.'
                         f'{suggest_name(str(backend), BACKENDS)}')
    for name, value in deviations.items():
        if not value > 0:
            raise ValueError(f'dense CRF {name}: expected a standard deviation > 0, got {value}')
    if iterations < 0:
        raise ValueError(f'dense CRF iterations: expected a number >= 0, got {iterations}')


def _mean_field(rgb: Tensor, probabilities: Tensor, iterations: int, exact: bool, gaussian_sxy: float,
                gaussian_compat: float, bilateral_sxy: float, bilateral_srgb: float, bilateral_compat: float) -> Tensor:
    height, width = probabilities.shape[1:]
    # C N with N = H W: a softmax over the first axis and everything per pixel run along the memory.
    log_p = probabilities.float().clamp(PROBABILITY_FLOOR, 1).log().flatten(1).contiguous()
    q = log_p.softmax(0)
    if not iterations:
        return q.unflatten(1, (height, width))
    spatial = _normalised(spatial_filter(height, width, gaussian_sxy, log_p.device), log_p)
    features = bilateral_features(rgb.to(log_p.device), bilateral_sxy, bilateral_srgb)
    between_points = exact_filter(features) if exact else PermutohedralFilter(features)
    bilateral = _normalised(lambda planes: between_points(planes.T.contiguous()).T, log_p)
    for _ in range(iterations):
        q = log_p.add(spatial(q), alpha=gaussian_compat).add_(bilateral(q), alpha=bilateral_compat).softmax(0)
    return q.unflatten(1, (height, width))


def _normalised(kernel: Filter, like: Tensor) -> Filter:
    """D^-1/2 K D^-1/2 from K, for V N values."""
    scale = (kernel(like.new_ones(1, like.shape[1])) + 1e-20).rsqrt()
    return lambda values: kernel(scale * values) * scale


def spatial_filter(height: int, width: int, deviation: float, device: torch.device) -> Filter:
    """The Gaussian over positions for V N values, exact: it is separable, one small matrix per direction."""
    rows, columns = (torch.exp(-0.5 * ((i[:, None] - i[None]) / deviation) ** 2) for i in
                     (torch.arange(n, device=device, dtype=torch.float32) for n in (height, width)))
    return lambda values: (rows @ (values.unflatten(1, (height, width)) @ columns)).flatten(1)


def bilateral_features(rgb: Tensor, sxy: float, srgb: float) -> Tensor:
    """H W 3 colours to N 5 features (x, y, r, g, b) in units of their standard deviations."""
    height, width = rgb.shape[:2]
    y, x = torch.meshgrid(torch.arange(height, device=rgb.device), torch.arange(width, device=rgb.device),
                          indexing='ij')
    position = torch.stack([x, y], -1).float() / sxy
    return torch.cat([position, rgb.float() / srgb], -1).flatten(0, 1)


def exact_filter(features: Tensor) -> Filter:
    """All pairs of N d features, in blocks of rows."""
    block = max(1, EXACT_ROWS // len(features))

    def kernel(values: Tensor) -> Tensor:
        distances = (torch.cdist(rows, features, compute_mode='donot_use_mm_for_euclid_dist')
                     for rows in features.split(block))
        return torch.cat([torch.exp(-0.5 * d ** 2) @ values for d in distances])

    return kernel


def _pydensecrf(rgb: Tensor, probabilities: Tensor, iterations: int, gaussian_sxy: float, gaussian_compat: float,
                bilateral_sxy: float, bilateral_srgb: float, bilateral_compat: float) -> Tensor:
    try:
        import pydensecrf.densecrf as densecrf
    except ImportError as error:
        raise ImportError("dense CRF backend 'pydensecrf' is not installed; get it with `pip install pydensecrf2` "
                          "(needs a C++ compiler), or use backend='lattice', which needs none") from error
    classes, height, width = probabilities.shape
    unary = -probabilities.detach().float().cpu().clamp(PROBABILITY_FLOOR, 1).log().flatten(1).numpy()
    field = densecrf.DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    colours = np.ascontiguousarray(rgb.cpu().round().clamp(0, 255).to(torch.uint8).numpy())
    field.addPairwiseBilateral(sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=colours, compat=bilateral_compat)
    marginals = np.array(field.inference(iterations), dtype=np.float32).reshape(classes, height, width)
    return torch.from_numpy(marginals).to(probabilities.device)


@SEED_STEPS.register_module()
class Crf:
    """Seed step: dense CRF on the class maps. Offline only (host work, image by image).

    Reads ``maps`` and ``rgb`` (B 3 H W, 0..255); writes ``pixel_labels`` and ``confidence`` (the highest marginal).
    Only the image's own classes and the background take part. An image without classes is background, confidence 1.

    Args:
        background, background_value: see :func:`weclip_sam.seeds.scores.background_score`; CLIP-ES: power 1.
        min_confidence: pixels whose highest marginal is lower are ignored (255); CLIP-ES: 0.95. None keeps all.
        normalise: stretch every map to [0, 1) before resizing it to the image; off for maps that are scores already.
            Where a background score stands beside the maps (PAR, a prediction) both are scaled to sum to one instead,
            and the marginals take their place.
        crf: keyword arguments of :func:`dense_crf`.

    Raises:
        ValueError: a setting that does not exist, or a value out of range.
    """

    needs, gives = frozenset({'maps', 'rgb'}), frozenset({'pixel_labels'})

    def __init__(self, background: str = 'power', background_value: float = 1.0, min_confidence: float | None = None,
                 normalise: bool = True, crf: dict | None = None) -> None:
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise ValueError(f'Crf min_confidence: expected a probability or None, got {min_confidence}')
        background_score(torch.zeros(0), background, background_value)  # names what is wrong now, not later
        check_settings(crf or {})
        self.background, self.background_value = background, background_value
        self.min_confidence, self.normalise, self.crf = min_confidence, normalise, dict(crf or {})

    def settled(self) -> str:
        """The backend that labels depend on, where the config leaves it open."""
        return resolve_backend(self.crf.get('backend', 'auto'))

    def __call__(self, state: SeedState) -> SeedState:
        """With a ``background`` beside the maps, it and ``maps`` are written, too, at the size of ``rgb``; with
        ``keep_scores`` the marginals are ``chosen_by``."""
        batch_size, _, height, width = state.rgb.shape
        labels = torch.zeros(batch_size, height, width, dtype=torch.long, device=state.rgb.device)
        confidence = torch.ones(batch_size, height, width, device=state.rgb.device)
        scores, background = [], torch.ones_like(confidence)
        for image in state.maps.sample_index.unique().tolist():
            marginals, names = self._refine(state, image)
            confidence[image], winner = marginals.max(0)
            labels[image] = names[winner]
            background[image] = marginals[0]
            scores.append(marginals[1:])
        if self.min_confidence is not None:
            labels = labels.masked_fill(confidence < self.min_confidence, IGNORE_LABEL)
        if state.keep_scores:
            chosen = torch.cat([*scores, background.new_zeros(0, height, width)])
            state = dataclasses.replace(state, chosen_by=(state.maps.with_scores(chosen), background))
        if state.background is not None and scores:
            state = state.with_maps('crf', state.maps.with_scores(torch.cat(scores)), background=background)
        return dataclasses.replace(state, pixel_labels=labels, confidence=confidence)

    def _refine(self, state: SeedState, image: int) -> tuple[Tensor, Tensor]:
        """Marginals 1+C' H W of one image and the label of each channel."""
        mine = state.maps.sample_index == image
        scores = state.maps.scores[mine].float()
        size = tuple(state.rgb.shape[2:])
        if state.background is None:
            scores = resize_maps(min_max(scores) if self.normalise else scores, size).clamp(0, 1)
            probabilities = with_background(scores, self.background, self.background_value)
        else:
            probabilities = resize_maps(torch.cat([state.background[image][None], scores]), size).clamp(min=0)
            if self.normalise:  # PAR's exceed one
                probabilities = probabilities / probabilities.sum(0).clamp(min=PROBABILITY_FLOOR)
        classes = state.maps.class_index[mine]
        names = torch.cat([torch.zeros_like(classes[:1]), foreground_label(classes)])
        return dense_crf(state.rgb[image].permute(1, 2, 0), probabilities, **self.crf), names
