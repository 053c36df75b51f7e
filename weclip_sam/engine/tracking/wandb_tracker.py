"""Weights & Biases."""
from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.engine.tracking.base import Tracker, prefer
from weclip_sam.registry import VISBACKENDS

ITERATION = 'iteration'  # what every curve is drawn over


@VISBACKENDS.register_module()
class WandbTracker(Tracker):
    """A run of Weights & Biases, kept in ``wandb`` in the work dir and, unless ``WANDB_MODE=offline``, sent on.

    Otherwise than mmengine's own backend it draws over iterations, goes on with the run of a resumed training, and
    sends neither source files nor what is printed. Project and account are those of the environment
    (``WANDB_PROJECT``, else ``weclip_sam``; ``WANDB_ENTITY``). A run that is open already, in a notebook say, is
    somebody else's: nothing is written into it, and it stays open.
    """

    name = 'wandb'
    advice = 'Log in (wandb login), or keep the run on this disk: WANDB_MODE=offline.'

    def begin(self, run_id: str | None) -> str:
        """A run of that id, or a new one."""
        prefer(WANDB_ERROR_REPORTING='false', WANDB_FINISH_TIMEOUT='600')  # no reports of its own; seconds
        self._wandb: Any = importlib.import_module('wandb')
        beside = {} if self._wandb.run is None else dict(reinit='create_new')  # else init gives the one that is open
        self._run = self._wandb.init(
            project=os.environ.get('WANDB_PROJECT', 'weclip_sam'), name=self.run_name, id=run_id, dir=self.work_dir,
            resume=None if run_id is None else 'allow', settings=self._wandb.Settings(console='off', save_code=False),
            **beside)
        self._run.define_metric(ITERATION)
        self._run.define_metric('*', step_metric=ITERATION)
        self.where = str(Path(self._run.dir).parent) if self._run.offline else self._run.url
        return self._run.id

    def send_settings(self, settings: dict[str, Any], text: str, environment: dict[str, Any]) -> None:
        """As the run's config."""
        self._run.config.update({**settings, 'environment': environment}, allow_val_change=True)

    def send_scalars(self, scalars: dict[str, float], step: int) -> None:
        """A row of the history."""
        self._run.log({**scalars, ITERATION: step})

    def send_image(self, name: str, image: np.ndarray, step: int) -> None:
        """A media panel."""
        self._run.log({name: self._wandb.Image(image), ITERATION: step})

    def finish(self, failed: bool) -> None:
        """Wait until everything is sent, ten minutes at most (``WANDB_FINISH_TIMEOUT``)."""
        self._run.finish(exit_code=1 if failed else 0)
        self._end_helper(0)

    def give_up(self) -> None:
        """Its helper process may be gone: the end of the program must not ask for it."""
        self._end_helper(1)

    def _end_helper(self, exit_code: int) -> None:
        """The helper process serves all runs of this program: with another one open it stays."""
        if self._wandb.run in (None, self._run):
            self._wandb.teardown(exit_code=exit_code)
