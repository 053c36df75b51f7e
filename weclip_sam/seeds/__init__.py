"""Seeds: from frozen features to pixel labels, as a list of pure steps."""
from weclip_sam.seeds.affinity import AttentionAffinity, RfmAffinity
from weclip_sam.seeds.blend import BlendMaps, BlendPrediction
from weclip_sam.seeds.crf import Crf
from weclip_sam.seeds.fma_affinity import FmaAffinity
from weclip_sam.seeds.gradcam import GradCam
from weclip_sam.seeds.labels import IgnoreDisagreement, PixelLabels
from weclip_sam.seeds.mask_steps import RockSandWater
from weclip_sam.seeds.par import Par
from weclip_sam.seeds.pipeline import SeedPipeline
from weclip_sam.seeds.sams import SamVote
from weclip_sam.seeds.sepl import SeplMerge

__all__ = ['AttentionAffinity', 'BlendMaps', 'BlendPrediction', 'Crf', 'FmaAffinity', 'GradCam', 'IgnoreDisagreement',
           'Par', 'PixelLabels', 'RfmAffinity', 'RockSandWater', 'SamVote', 'SeedPipeline', 'SeplMerge']
