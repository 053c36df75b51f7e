"""What a comparison measured, as values: stages, runs, methods; and what others published, which is kept apart."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weclip_sam.io.text import read_json

TESTS = {'single': 'single scale', 'multi': 'multi-scale + flip', 'crf': 'multi-scale + flip + CRF',
         'sam': 'single scale + SAM', 'all': 'multi-scale + flip + SAM + CRF'}
WITH_SAM = {'sam', 'all'}


@dataclass(frozen=True)
class StageCost:
    """What one stage of one run cost.

    Attributes:
        name, tool: of the stage.
        seconds: wall time without the scoring of pseudo labels; None if unknown.
        memory_gb: peak memory of the largest process (10^9 bytes), or of the GPU if there was one.
        shared: several methods use this one run of it.
        once: all seeds use it.
        cpu_seconds: CPU time of its processes without the scoring of pseudo labels; None if unknown or on a GPU.
    """

    name: str
    tool: str
    seconds: float | None
    memory_gb: float | None
    shared: bool = False
    once: bool = False
    cpu_seconds: float | None = None

    @property
    def is_test(self) -> bool:
        """Tests measure a system; they are no part of making it."""
        return self.tool == 'test'


@dataclass(frozen=True)
class RunResult:
    """One method with one seed; figures that were not measured are None or missing.

    Attributes:
        seed: of the run.
        seeds_miou: of the final pseudo labels on train, percent.
        seed_steps: mIoU of the labels after each step or stage that makes labels, in order.
        val: mIoU on val by kind of test (``TESTS``), percent.
        class_iou: IoU by class (``background`` first) of the best-equipped common test, percent.
        parameters: trained ones, of all stages together.
        stages: their costs, in order.
        missing: what is not there yet, in words.
    """

    seed: int
    seeds_miou: float | None = None
    seed_steps: Mapping[str, float] = field(default_factory=dict)
    val: Mapping[str, float] = field(default_factory=dict)
    class_iou: Mapping[str, float | None] = field(default_factory=dict)
    parameters: int | None = None
    stages: tuple[StageCost, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Wall time of everything that makes the system, tests left out; None if a part of it is unknown."""
        return self._sum('seconds')

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of the same; other work on the machine hardly changes it."""
        return self._sum('cpu_seconds')

    def _sum(self, what: str) -> float | None:
        parts = [getattr(stage, what) for stage in self.stages if not stage.is_test]
        return sum(parts) if parts and None not in parts else None

    @property
    def memory_gb(self) -> float | None:
        """The largest peak of the stages that make the system."""
        parts = [stage.memory_gb for stage in self.stages if not stage.is_test and stage.memory_gb is not None]
        return max(parts, default=None)


@dataclass(frozen=True)
class MethodResult:
    """All runs of a method, by seed.

    Attributes:
        name, runs: of the method.
        note: a few words beside the name.
        reference: shown for orientation (a fully supervised upper bound, say); never marked as best.
    """

    name: str
    runs: tuple[RunResult, ...]
    note: str = ''
    reference: bool = False

    @property
    def stage_names(self) -> list[str]:
        """The stages that make the system, in order."""
        return list(dict.fromkeys(s.name for run in self.runs for s in run.stages if not s.is_test))


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one image: ``panels`` of (title, PNG bytes, note), e.g. a method, its prediction, its mIoU there."""

    caption: str
    panels: tuple[tuple[str, bytes, str], ...]


def published_figures() -> list[dict[str, Any]]:
    """The rows of ``published.json``, figures that other people published and nobody measured here.

    Each has ``method`` (as its authors call it; in brackets, what is special about the row), ``stages`` (single, multi
    or training-free), ``backbone`` of the network that makes the final segmentation, ``extra`` foundation models,
    ``crf`` and ``multi_scale`` (whether the scores use them), ``voc_val``, ``voc_test`` and ``coco_val`` (percent mIoU
    as printed, or a range), ``seeds`` (mIoU of the pseudo labels, with their split), ``note`` and ``paper`` (empty:
    told by third parties); None: not stated.
    """
    data = read_json(Path(__file__).with_name('published.json'))
    return [dict(zip(data['columns'], row, strict=True)) for row in data['figures']]


@dataclass(frozen=True)
class Comparison:
    """Everything in a report.

    Attributes:
        title: of the experiment.
        methods: in the order of the experiment.
        seeds: how many runs each method should have.
        pictures: rows by the title of their group.
        legend: (name, #rrggbb) of the classes in the pictures.
        tuning: rows ``what``, ``where``, ``how``, perhaps ``method``: settings chosen with ground truth, and on which.
        terms: sentences on what is equal for all methods.
        checked_terms: (what, method to value) found in the configs.
        notes: further sentences.
        about: things like date, command, machine.
        published: other people's figures, see :func:`published_figures`.
    """

    title: str
    methods: tuple[MethodResult, ...]
    seeds: int = 1
    pictures: Mapping[str, Sequence[PictureRow]] = field(default_factory=dict)
    legend: Sequence[tuple[str, str]] = ()
    tuning: Sequence[Mapping[str, str]] = ()
    terms: Sequence[str] = ()
    checked_terms: Sequence[tuple[str, Mapping[str, str]]] = ()
    notes: Sequence[str] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    published: Sequence[Mapping[str, Any]] = field(default_factory=published_figures)
