"""MLflow."""
from __future__ import annotations

import importlib
import os
import re
import time
from typing import Any

import numpy as np

from weclip_sam.engine.start.restore import leaves
from weclip_sam.engine.tracking.base import Tracker, prefer
from weclip_sam.registry import VISBACKENDS

# Of the config, what is worth comparing runs by; the whole of it is kept as a file.
_COMPARED = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'randomness', 'data_root',
             'mask_bank', 'load_from')
_TOGETHER, _LONGEST = 100, 500  # parameters that a server takes at once, and letters of a value


@VISBACKENDS.register_module()
class MlflowTracker(Tracker):
    """A run of MLflow, in ``mlflow.db`` and ``mlruns`` beside the work dir unless ``MLFLOW_TRACKING_URI`` says where.

    mmengine's own backend writes into a folder of files, which MLflow refuses by now. The experiment is
    ``MLFLOW_EXPERIMENT_NAME``, else ``weclip_sam``. A server that does not answer is given up after some seconds.
    """

    name = 'mlflow'
    advice = 'Is MLFLOW_TRACKING_URI right, or unset for a file beside the work dir?'

    def begin(self, run_id: str | None) -> str:
        """A run of that id if the store has it, else a new one."""
        prefer(MLFLOW_DISABLE_TELEMETRY='true', MLFLOW_HTTP_REQUEST_MAX_RETRIES='2', MLFLOW_HTTP_REQUEST_TIMEOUT='20')
        self._mlflow: Any = importlib.import_module('mlflow')
        place = self.work_dir.resolve().parent
        own = f'sqlite:///{place / "mlflow.db"}'
        uri = os.environ.get('MLFLOW_TRACKING_URI') or own
        self._client = self._mlflow.MlflowClient(uri)
        self._known: set[str] = set()  # parameters, which never change
        if run_id is None or not self._takes_up(run_id):
            experiment = self._experiment((place / 'mlruns').as_uri() if uri == own else None)
            run_id = str(self._client.create_run(experiment, run_name=self.run_name).info.run_id)
        self._run_id, self.where = run_id, uri
        return run_id

    def _takes_up(self, run_id: str) -> bool:
        try:
            run = self._client.get_run(run_id)
        except self._mlflow.MlflowException:  # of another store
            return False
        self._client.update_run(run_id, 'RUNNING')
        self._known = set(run.data.params)
        return True

    def _experiment(self, artifacts: str | None) -> str:
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME') or 'weclip_sam'
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name, artifact_location=artifacts)

    def send_settings(self, settings: dict[str, Any], text: str, environment: dict[str, Any]) -> None:
        """Parameters to compare by, and ``config.py`` and ``environment.json`` as artifacts."""
        found = {_allowed(name): str(value)[:_LONGEST] for key in _COMPARED for name, value in leaves(
            settings.get(key), key) if not name.startswith('model.vocabulary')}
        found['work_dir'] = str(self.work_dir)[:_LONGEST]
        new = [self._mlflow.entities.Param(*pair) for pair in found.items() if pair[0] not in self._known]
        for first in range(0, len(new), _TOGETHER):
            self._client.log_batch(self._run_id, params=new[first:first + _TOGETHER])
        self._client.log_text(self._run_id, text, 'config.py')
        self._client.log_dict(self._run_id, environment, 'environment.json')

    def send_scalars(self, scalars: dict[str, float], step: int) -> None:
        """Metrics."""
        now = round(1000 * time.time())
        self._client.log_batch(self._run_id, metrics=[
            self._mlflow.entities.Metric(_allowed(name), value, now, step) for name, value in scalars.items()])

    def send_image(self, name: str, image: np.ndarray, step: int) -> None:
        """An image of a step."""
        self._client.log_image(self._run_id, image, key=_allowed(name), step=step)

    def finish(self, failed: bool) -> None:
        """Say how it ended."""
        self._client.set_terminated(self._run_id, 'FAILED' if failed else 'FINISHED')


def _allowed(name: str) -> str:
    """A name as MLflow takes it: letters, digits and ``_-./`` and blanks."""
    return re.sub(r'[^\w\-./ ]', '_', name, flags=re.ASCII)[:250]
