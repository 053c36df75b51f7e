"""How WeCLIP-SAM joins CAM, RFM and SAM: the main job with its labels made in other ways, one seed.

    python tools/compare.py configs/compare/shapes_joins.py --run

The masks and the main job's row are those of configs/compare/shapes.py, or made here. Stages and placeholders are
explained in weclip_sam/comparison/experiment.py.
"""
title = 'shapes: how the labels of WeCLIP-SAM are joined'
root = 'work_dirs/compare/shapes_joins'
seeds = 1
tests = ['single', 'crf']
estimates = dict(
    seconds_per_iteration={'weclip-sam*_tiny_*': 0.47},
    where='seconds of one thread of a CPU that others used, too, as docs/performance.md has them')
_name = 'configs/weclip_sam/weclip-sam{}_tiny_400_shapes.py'
_others = 'work_dirs/compare/shapes'
_bank = dict(mask_bank='{masks}')
shared = [dict(name='masks', tool='make_masks', config=_name.format(''), folder=f'{_others}/shared/masks')]
methods = [
    dict(name=name, uses=['masks'], stages=[dict(
        name='train', tool='train', config=_name.format(suffix), options=_bank,
        **({} if suffix else dict(folder=f'{_others}/weclip-sam/seed{{seed}}/train')))])
    for name, suffix in [
        ('RFM and PAR, no votes', '-par'), ('votes on RFM maps', '-votes'),
        ('votes on the mean of CAM and RFM maps', '-blend'),
        ('the same, masks thinned', '-thin'), ('and ignored where CAM disagrees', '-agree'),
        ('thinned, decoder heard from half-time on (main job)', '')]]
pictures = dict(config=_name.format(''), count=4, extremes=2,
                focus='thinned, decoder heard from half-time on (main job)')
terms = ['One seed; data, masks, decoder and schedule are those of the main job.',
         'Every figure is of the last checkpoint; none is chosen by its score on val.']
