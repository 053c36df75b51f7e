"""Single-stage against two-stage on the embedded data set, three seeds.

    python tools/compare.py configs/compare/shapes.py --run

Stages and placeholders are explained in weclip_sam/comparison/experiment.py.
"""
title = 'shapes: single-stage against two-stage systems'
root = 'work_dirs/compare/shapes'
seeds = 3
tests = ['single', 'multi', 'crf', 'sam', 'all']
sam = 'tiny'
# For compare.py --list, of trainings that have not run: docs/performance.md; offline, the 1.15th part of online.
estimates = dict(
    seconds_per_iteration={'weclip-sam*_tiny_*': 0.47, 'weclip-plus_tiny_*': 0.53, 'offline-decoder*_tiny_*': 0.41},
    seconds={'clip-es_tiny_*': 120, 'excel_tiny_*': 40},  # as their configs say
    where='seconds of one thread of a CPU that others used, too, as docs/performance.md has them')
_labels = 'train_dataloader.dataset.pixel_labels'
_clip_es, _sepl = 'configs/clip_es/clip-es_tiny_free_shapes.py', 'configs/sepl/sepl_tiny_free_shapes.py'
_coarse, _fine = 'configs/fma/fma-coarse_tiny_free_shapes.py', 'configs/fma/fma-fine_tiny_free_shapes.py'
_decoder = 'configs/two_stage/offline-decoder_tiny_400_shapes.py'
_former = 'configs/weclip_sam/weclip-sam-v1_tiny_400_shapes.py'
_thin = 'configs/weclip_sam/weclip-sam-thin_tiny_400_shapes.py'
_bank = dict(mask_bank='{masks}')
# Made once and used by several methods, whose wall time counts them all the same.
shared = [
    dict(name='masks', tool='make_masks', config='configs/weclip_sam/weclip-sam_tiny_400_shapes.py'),
    dict(name='clip-es', tool='make_seeds', config=_clip_es),
    dict(name='excel', tool='make_seeds', config='configs/excel/excel_tiny_free_shapes.py'),
    dict(name='sepl', tool='make_seeds', config=_sepl, options=dict(mask_bank='{masks}'),
         arguments=['--labels', '{clip-es}'])]
_fma_chain = [
    dict(name='class-prompts', tool='train', config='configs/fma/fma-cls-prompts_tiny_200_shapes.py'),
    dict(name='coarse', tool='make_seeds', config=_coarse,
         options={'mask_bank': '{masks}', 'model.prompts': '{class-prompts}/prompts.safetensors'}),
    dict(name='segment-prompts', tool='train', config='configs/fma/fma-seg-prompts_tiny_100_shapes.py',
         options={_labels: '{coarse}', 'model.start': '{class-prompts}/prompts.safetensors'}),
    dict(name='fine', tool='make_seeds', config=_fine,
         options={'mask_bank': '{masks}', 'model.prompts': '{segment-prompts}/prompts.safetensors'})]
methods = [
    dict(name='WeCLIP-SAM', note='ours, single stage', uses=['masks'], stages=[
        dict(name='train', tool='train', config='configs/weclip_sam/weclip-sam_tiny_400_shapes.py', options=_bank)]),
    dict(name='WeCLIP-SAM, first version', note="ours, CLIP and SAM's masks alone", uses=['masks'], stages=[
        dict(name='train', tool='train', config=_former, options=_bank)]),
    dict(name='WeCLIP-SAM, first version, decoder not heard', note='labels from CLIP and SAM alone', uses=['masks'],
         stages=[
        dict(name='train', tool='train', config=_thin, options=_bank)]),
    # Making labels costs time in every iteration; this row spends no more time than the two-stage systems do.
    dict(name='WeCLIP-SAM, first version, decoder not heard, 280 iterations', note='the same, shorter', uses=['masks'],
         stages=[
        dict(name='train', tool='train', config=_thin, options={
            **_bank, 'train_cfg.max_iters': 280, 'param_scheduler.0.end': 280})]),
    dict(name='WeCLIP', note='single stage, no SAM', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip_tiny_400_shapes.py')]),
    dict(name='WeCLIP+', note="single stage, SAM's encoder as second eye, no masks", stages=[
        dict(name='train', tool='train', config='configs/weclip_plus/weclip-plus_tiny_400_shapes.py')]),
    dict(name='WeCLIP without RFM', note='single stage, no SAM', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip-no-rfm_tiny_400_shapes.py')]),
    # RFM was made to choose among many blocks; with the one that tune chose, it has no choice.
    dict(name='WeCLIP, all blocks', note='RFM chooses among all six', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip_tiny_400_shapes.py',
             options={'model.seeds.1.layers': 6, 'model.seeds.1.warmup_layers': 6})]),
    dict(name='WeCLIP, all blocks, without RFM', note='mean of all six', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip-no-rfm_tiny_400_shapes.py',
             options={'model.seeds.1.layers': 6})]),
    dict(name='CLIP-ES', note='labels offline, same decoder', uses=['clip-es'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={_labels: '{clip-es}'})]),
    dict(name='ExCEL, training-free', note='labels offline, same decoder', uses=['excel'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={_labels: '{excel}'})]),
    dict(name='SEPL on CLIP-ES', note='labels offline, same decoder', uses=['masks', 'clip-es', 'sepl'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={_labels: '{sepl}'})]),
    dict(name='FMA-WSSS', note='labels offline, same decoder', uses=['masks'], stages=[
        *_fma_chain, dict(name='second-stage', tool='train', config=_decoder, options={_labels: '{fine}'})]),
    dict(name='Supervised', note='upper bound: true masks, same decoder', reference=True, stages=[
        dict(name='train', tool='train', config='configs/two_stage/offline-decoder-supervised_tiny_400_shapes.py')]),
    dict(name="Supervised, WeCLIP-SAM's decoder", note='upper bound: true masks, its decoder and second eye',
         reference=True, stages=[
        dict(name='train', tool='train', config='configs/two_stage/fine-decoder-supervised_tiny_400_shapes.py')])]
pictures = dict(config='configs/weclip_sam/weclip-sam_tiny_400_shapes.py', count=6, extremes=3, focus='WeCLIP-SAM')
terms = [
    'Image labels only: no method but the upper bounds opens a mask of a training image.',
    'The same frozen tiny CLIP, and the same tiny SAM with one bank of masks, wherever they are used.',
    'Two-stage methods that share labels read the very same label files.',
    'Every figure is of the last checkpoint; none is chosen by its score on val.']
_tune = "shapes 'tune' (scenes that are neither train nor val)"
tuning = [
    dict(what='affinity block 2 (all rows but those of all blocks) and its box threshold, background of the votes, '
              'thinning and blend',
         where=_tune, how='a few values each, labels scored on tune'),
    dict(what="WeCLIP-SAM: the decoder's prediction as half of the maps", where=_tune,
         how='with or without, three seeds'),
    dict(what='WeCLIP-SAM: maps and their mean, the second eye and its temperature, stride of the decoder, Dice, from '
              'when the decoder is heard', where=_tune, how='some thirty pipelines by their labels, nine trainings'),
    dict(what='WeCLIP+: weight of the affinity loss, from when the decoder is heard and its answer replaces labels, '
              'boxes, the product with its probability', where=_tune, how='eleven trainings, some of their last part'),
    dict(what='ExCEL: calibrated blocks and box threshold', where=_tune, how='a few values, labels scored on tune'),
    dict(what='test scales 1 and 1.5 (all methods)', where=_tune, how='three pairs, the main job scored on tune'),
    dict(what="FMA-WSSS's segment prompts: learning rate, iterations, weight of the activation loss, start",
         where=_tune, how='a few values each, fine seeds scored on tune'),
    dict(what="mask generator of the tiny SAM", where="SAM's own held-out scenes", how='a few values each'),
    dict(what='decoder: 256 channels as published; 128 were compared with it on val once', where='val', how='one pair')]
