"""A tracker is a guest of the training: it may fail to come, but once there it never ends the work of others."""
from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend

from weclip_sam.engine.start.environment import describe_environment
from weclip_sam.io.files import write_json
from weclip_sam.io.plain import plain
from weclip_sam.io.text import read_json

RECORD = 'tracker.json'  # in the work dir: which run of a tracker this training is


class Tracker(BaseVisBackend):
    """One run of an experiment tracker.

    The run begins when the config is added, which is before training; what fails then is an error. What fails later
    (a full disk, a network) is told once, and from then on nothing more is sent. mmengine closes backends before the
    summary is written, and an upload may take its time: :func:`end_trackers` ends the run, ``close`` does nothing.

    Args:
        save_dir: mmengine's folder of this start; not used.
        work_dir: of the training; what the tracker keeps on disk lies there or beside it.
        run_name: how the run is called.
        goes_on: whether the training is resumed: its run goes on, too, if ``tracker.json`` says which it is.

    Attributes:
        where: where the run can be looked at, once it has begun: a folder, a file or an address.
    """

    name: str  # as ``--track`` has it, which is that of the package, too
    advice = ''

    def __init__(self, save_dir: str, work_dir: str, run_name: str, goes_on: bool = False) -> None:
        super().__init__(save_dir)
        self.work_dir, self.run_name, self.goes_on = Path(work_dir), run_name, goes_on
        self.where = ''
        self._alive, self._run_id, self._noted = False, '', False

    # ---- what a tracker does ---------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self, run_id: str | None) -> str:
        """Begin a run, or go on with that of an id; returns its id and sets ``where``."""

    @abstractmethod
    def send_settings(self, settings: dict[str, Any], text: str, environment: dict[str, Any]) -> None:
        """Keep the resolved config, as plain values and as text, and the environment."""

    @abstractmethod
    def send_scalars(self, scalars: dict[str, float], step: int) -> None:
        """Keep the numbers of an iteration (1-based)."""

    @abstractmethod
    def send_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Keep a picture, H W 3 uint8."""

    @abstractmethod
    def finish(self, failed: bool) -> None:
        """End the run."""

    def give_up(self) -> None:
        """Something has failed, and nothing more is asked for: let go of what may fail again."""

    # ---- what mmengine calls, in the main process ------------------------------------------------------------------

    @property
    def experiment(self) -> Tracker:
        """This object."""
        return self

    def _init_env(self) -> None:
        """A run begins with its config."""

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Begin.

        Raises:
            ValueError: the tracker cannot.
        """
        try:
            self._run_id = self.begin(self._record().get(self.name) if self.goes_on else None)
            self.send_settings(plain(config.to_dict(), 'the config'), config.pretty_text, describe_environment())
        except Exception as error:
            raise ValueError(f'tracker {self.name!r}: cannot begin a run ({_in_short(error)}). {self.advice} Without '
                             '--track the training runs as well') from error
        self._alive = True

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Nobody asks for it."""

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """One number of an iteration."""
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None,
                    **kwargs: Any) -> None:
        """Numbers of an iteration; what is none is left out."""
        scalars = {name: float(value) for name, value in scalar_dict.items()
                   if name not in ('iter', 'step') and np.ndim(value) == 0 and not isinstance(value, (str, type(None)))}
        self._try(self.send_scalars, scalars, step)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """A picture of an iteration."""
        self._try(self.send_image, name, image, step)

    def close(self) -> None:
        """Too early, see the class."""

    def end(self, failed: bool = False) -> None:
        """End the run, once; what fails is told."""
        self._try(self.finish, failed)
        self._alive = False

    # ----------------------------------------------------------------------------------------------------------------

    def _try(self, send: Callable[..., None], *arguments: Any) -> None:
        if not self._alive:
            return
        try:
            if not self._noted:  # not when it begins: what an overwritten training left is removed after that
                write_json(self.work_dir / RECORD, {**self._record(), self.name: self._run_id})
                self._noted = True
            send(*arguments)
        except Exception as error:
            self._alive = False
            MMLogger.get_current_instance().warning(
                f'tracker {self.name!r}: nothing more is sent ({_in_short(error)}). The training goes on; what it '
                f'measures is in {self.work_dir}, too')
            with suppress(Exception):
                self.give_up()

    def _record(self) -> dict[str, Any]:
        try:
            record = read_json(self.work_dir / RECORD)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def trackers_of(visualizer: Visualizer) -> list[Tracker]:
    """The trackers among a visualizer's backends."""
    return [backend for backend in visualizer._vis_backends.values() if isinstance(backend, Tracker)]


def end_trackers(visualizer: Visualizer, failed: bool = False) -> None:
    """Call it when a training has ended and everything is written, or when it has failed."""
    for tracker in trackers_of(visualizer):
        tracker.end(failed)


def prefer(**variables: str) -> None:
    """Set environment variables that nobody has set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _in_short(error: Exception) -> str:
    """Class and first sentence of an error, on one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'.rstrip(': ')
