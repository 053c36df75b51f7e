"""Runs that are watched elsewhere: Weights & Biases and MLflow as backends of mmengine's visualizer."""
from weclip_sam.engine.tracking.base import Tracker, end_trackers, trackers_of
from weclip_sam.engine.tracking.mlflow_tracker import MlflowTracker
from weclip_sam.engine.tracking.wandb_tracker import WandbTracker

__all__ = ['MlflowTracker', 'Tracker', 'WandbTracker', 'end_trackers', 'trackers_of']
