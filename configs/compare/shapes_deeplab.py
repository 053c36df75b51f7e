"""The two-stage systems with an ordinary segmentation network as their second stage: DeepLabV3 on ResNet-18.

    python tools/compare.py configs/compare/shapes_deeplab.py --run

Reads the masks and seeds that configs/compare/shapes.py made, or makes them.
"""
title = 'shapes: DeepLabV3 as the second stage'
root = 'work_dirs/compare/shapes_deeplab'
_shared = 'work_dirs/compare/shapes/shared'
seeds = 1
tests = ['single', 'crf']
estimates = dict(
    seconds_per_iteration={'deeplab-v3*_resnet18_*': 1.25},
    seconds={'clip-es_tiny_*': 57, 'sepl_tiny_*': 13},
    where='one thread of a CPU')
_labels = 'train_dataloader.dataset.pixel_labels'
_deeplab = 'configs/two_stage/deeplab-v3_resnet18_800_shapes.py'
shared = [
    dict(name='masks', tool='make_masks', config='configs/weclip_sam/weclip-sam_tiny_400_shapes.py',
         folder=f'{_shared}/masks'),
    dict(name='clip-es', tool='make_seeds', config='configs/clip_es/clip-es_tiny_free_shapes.py',
         folder=f'{_shared}/clip-es'),
    dict(name='sepl', tool='make_seeds', config='configs/sepl/sepl_tiny_free_shapes.py', folder=f'{_shared}/sepl',
         options=dict(mask_bank='{masks}'), arguments=['--labels', '{clip-es}'])]
methods = [
    dict(name='CLIP-ES, DeepLabV3', note='ResNet-18 from random weights', uses=['clip-es'], stages=[
        dict(name='second-stage', tool='train', config=_deeplab, options={_labels: '{clip-es}'})]),
    dict(name='SEPL on CLIP-ES, DeepLabV3', note='ResNet-18 from random weights', uses=['masks', 'clip-es', 'sepl'],
         stages=[dict(name='second-stage', tool='train', config=_deeplab, options={_labels: '{sepl}'})]),
    dict(name='Supervised DeepLabV3', note='upper bound: true masks', reference=True, stages=[
        dict(name='train', tool='train', config='configs/two_stage/deeplab-v3-supervised_resnet18_800_shapes.py')])]
pictures = dict(config='configs/weclip_sam/weclip-sam_tiny_400_shapes.py', count=4, extremes=2,
                focus='SEPL on CLIP-ES, DeepLabV3')
terms = ['One seed. The labels are those that the comparison with the light decoder reads.']
