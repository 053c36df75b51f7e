"""Trained models, and the frozen networks inside them."""
from weclip_sam import torch_versions  # noqa: F401  # first: what follows needs torchvision
from weclip_sam.models.backbones import TimmBackbone
from weclip_sam.models.branches import BranchDecoder
from weclip_sam.models.decoder import WeClipDecoder
from weclip_sam.models.fine_decoder import FineDecoder
from weclip_sam.models.heads import DeepLabV2Head, DeepLabV3Head
from weclip_sam.models.preprocess import SegDataPreprocessor
from weclip_sam.models.prompt_tuning import PromptTuner
from weclip_sam.models.prompts import PromptLearner, load_prompts, save_prompts
from weclip_sam.models.seed_maker import SeedMaker
from weclip_sam.models.segmentor import Segmentor
from weclip_sam.models.weclip import WeClip

__all__ = ['BranchDecoder', 'DeepLabV2Head', 'DeepLabV3Head', 'FineDecoder', 'PromptLearner', 'PromptTuner',
           'SeedMaker', 'SegDataPreprocessor', 'Segmentor', 'TimmBackbone', 'WeClip', 'WeClipDecoder', 'load_prompts',
           'save_prompts']
