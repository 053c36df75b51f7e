"""Trained models, and the frozen networks inside them."""
from .backbones import TimmBackbone
from .decoder import WeClipDecoder
from .heads import DeepLabV2Head, DeepLabV3Head
from .preprocess import SegDataPreprocessor
from .prompt_tuning import PromptTuner
from .prompts import PromptLearner, load_prompts, save_prompts
from .seed_maker import SeedMaker
from .segmentor import Segmentor
from .weclip import WeClip

__all__ = ['DeepLabV2Head', 'DeepLabV3Head', 'PromptLearner', 'PromptTuner', 'SeedMaker', 'SegDataPreprocessor',
           'Segmentor', 'TimmBackbone', 'WeClip', 'WeClipDecoder', 'load_prompts', 'save_prompts']
