"""Everything around mmengine's Runner: hooks, safe checkpoints, precision, configs, start-up."""
from .checkpoint import check_covers, find_resumable, install_safe_loading, safe_load
from .checkpoint_hook import AtomicCheckpointHook
from .config import load_config
from .errors import explain, friendly_errors
from .hooks import CheckpointGuardHook, CurriculumHook, RngStateHook, rng_state, set_rng_state, unwrapped
from .launch import build_runner, prepare_work_dir, start_distributed, use_resume
from .masks import MaskBankHook
from .optim import Bf16OptimWrapper
from .predictions import SavePredictionsHook
from .progress import ProgressHook, ProgressReporter
from .prompts import SavePromptsHook
from .resume import ResumeDataHook
from .schedulers import PolyWarmupLR, PolyWarmupParamScheduler
from .summary import ProtocolValHook, SeedEvalHook, SummaryHook

install_safe_loading()

__all__ = [
    'AtomicCheckpointHook', 'Bf16OptimWrapper', 'CheckpointGuardHook', 'CurriculumHook', 'MaskBankHook', 'PolyWarmupLR',
    'PolyWarmupParamScheduler', 'ProgressHook', 'ProgressReporter', 'ProtocolValHook',
    'ResumeDataHook', 'RngStateHook', 'SavePredictionsHook', 'SavePromptsHook', 'SeedEvalHook',
    'SummaryHook',
    'build_runner', 'check_covers', 'explain', 'find_resumable', 'friendly_errors', 'install_safe_loading',
    'load_config', 'prepare_work_dir', 'rng_state', 'safe_load', 'set_rng_state',
    'start_distributed', 'unwrapped', 'use_resume',
]
