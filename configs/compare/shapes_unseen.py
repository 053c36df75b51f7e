"""Five rows on scenes that nothing was chosen on: the order that ``shapes.py`` finds, confirmed on another data set.

    python tools/compare.py configs/compare/shapes_unseen.py --run

One seed each; for scenes of another seed change ``scenes_seed`` in a copy of this file.
"""
title = 'shapes, scenes of seed 7: five systems'
root = 'work_dirs/compare/shapes_unseen'
seeds = 1
tests = ['single', 'multi', 'crf', 'sam', 'all']
estimates = dict(
    seconds_per_iteration={'weclip-sam*_tiny_*': 0.47, 'offline-decoder*_tiny_*': 0.41},
    seconds={'clip-es_tiny_*': 120},  # as its config says
    where='seconds of one thread of a CPU that others used, too, as docs/performance.md has them')
sam = 'tiny'
_scenes = dict(scenes_seed=7)
_labels = 'train_dataloader.dataset.pixel_labels'
_new, _former = (f'configs/weclip_sam/weclip-sam{name}_tiny_400_shapes.py' for name in ('', '-v1'))
_clip_es, _sepl = 'configs/clip_es/clip-es_tiny_free_shapes.py', 'configs/sepl/sepl_tiny_free_shapes.py'
_decoder = 'configs/two_stage/offline-decoder_tiny_400_shapes.py'
_bank = dict(_scenes, mask_bank='{masks}')
shared = [
    dict(name='masks', tool='make_masks', config=_new, options=_scenes),
    dict(name='clip-es', tool='make_seeds', config=_clip_es, options=_scenes),
    dict(name='sepl', tool='make_seeds', config=_sepl, options=_bank, arguments=['--labels', '{clip-es}'])]
methods = [
    dict(name='WeCLIP-SAM', note='ours, single stage', uses=['masks'], stages=[
        dict(name='train', tool='train', config=_new, options=_bank)]),
    dict(name='WeCLIP-SAM, first version', note='ours, CLIP and SAM\'s masks alone', uses=['masks'], stages=[
        dict(name='train', tool='train', config=_former, options=_bank)]),
    dict(name='WeCLIP', note='single stage, no SAM', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip_tiny_400_shapes.py', options=_scenes)]),
    dict(name='CLIP-ES', note='labels offline', uses=['clip-es'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={**_scenes, _labels: '{clip-es}'})]),
    dict(name='SEPL on CLIP-ES', note='labels offline', uses=['masks', 'clip-es', 'sepl'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={**_scenes, _labels: '{sepl}'})])]
pictures = dict(config=_new, count=4, extremes=2, focus='WeCLIP-SAM')
terms = ['Image labels only; the same frozen networks, one bank of masks; the last checkpoint of each.',
         'Nothing was chosen on scenes of this seed.']
tuning = []
