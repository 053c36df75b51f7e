"""Everything around mmengine's Runner: hooks, safe checkpoints, precision, configs, start-up."""
from weclip_sam.engine.hooks.checkpoint import AtomicCheckpointHook
from weclip_sam.engine.hooks.losses import LazyRuntimeInfoHook
from weclip_sam.engine.hooks.predictions import SavePredictionsHook
from weclip_sam.engine.hooks.prompts import SavePromptsHook
from weclip_sam.engine.hooks.protocol import ProtocolValHook
from weclip_sam.engine.hooks.resume import ResumeDataHook
from weclip_sam.engine.hooks.seed_eval import SeedEvalHook
from weclip_sam.engine.hooks.sheet import SheetHook
from weclip_sam.engine.hooks.state import (
    CheckpointGuardHook,
    CurriculumHook,
    RngStateHook,
    rng_state,
    set_rng_state,
    unwrapped,
)
from weclip_sam.engine.hooks.summary import SummaryHook
from weclip_sam.engine.optim import Bf16OptimWrapper
from weclip_sam.engine.progress import ProgressHook, ProgressReporter
from weclip_sam.engine.schedulers import PolyWarmupLR
from weclip_sam.engine.start.config import load_config
from weclip_sam.engine.start.errors import explain, friendly_errors
from weclip_sam.engine.start.launch import build_runner, prepare_work_dir, start_distributed, use_resume
from weclip_sam.engine.tracking import MlflowTracker, WandbTracker
from weclip_sam.io.checkpoints import check_covers, find_resumable, install_safe_loading, safe_load

install_safe_loading()

__all__ = [
    'AtomicCheckpointHook', 'Bf16OptimWrapper', 'CheckpointGuardHook', 'CurriculumHook', 'LazyRuntimeInfoHook',
    'MlflowTracker', 'PolyWarmupLR', 'ProgressHook', 'ProgressReporter', 'ProtocolValHook', 'ResumeDataHook',
    'RngStateHook', 'SavePredictionsHook', 'SavePromptsHook', 'SeedEvalHook', 'SheetHook', 'SummaryHook',
    'WandbTracker', 'build_runner', 'check_covers', 'explain', 'find_resumable', 'friendly_errors',
    'install_safe_loading', 'load_config', 'prepare_work_dir', 'rng_state', 'safe_load', 'set_rng_state',
    'start_distributed', 'unwrapped', 'use_resume',
]
