"""Seeds: from frozen features to pixel labels, as a list of pure steps."""
from weclip_sam.seeds.affinity import AttentionAffinity, RfmAffinity
from weclip_sam.seeds.blend import BlendMaps, BlendPrediction, WeighByPrediction
from weclip_sam.seeds.crf import Crf
from weclip_sam.seeds.excel import ExcelMaps
from weclip_sam.seeds.eye_affinity import CdaAffinity, EyeAffinity
from weclip_sam.seeds.fma_affinity import FmaAffinity
from weclip_sam.seeds.gradcam import GradCam
from weclip_sam.seeds.labels import IgnoreDisagreement, PixelLabels
from weclip_sam.seeds.mask_steps import RockSandWater, SamVote
from weclip_sam.seeds.par import Par
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.prompted_sam import PromptedSam
from weclip_sam.seeds.sepl import SeplMerge
from weclip_sam.seeds.vote_prediction import VotePrediction

__all__ = ['AttentionAffinity', 'BlendMaps', 'BlendPrediction', 'CdaAffinity', 'Crf', 'ExcelMaps', 'EyeAffinity',
           'FmaAffinity', 'GradCam', 'IgnoreDisagreement', 'Par', 'PixelLabels', 'PromptedSam', 'RfmAffinity',
           'RockSandWater', 'SamVote', 'SeedPipeline', 'SeplMerge', 'VotePrediction', 'WeighByPrediction']
