"""Single-stage against two-stage on VOC 2012, one seed; not run here, where there are neither VOC's images nor weights.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/weights.py configs/weclip_sam/weclip-sam_vit-b16_30k_voc.py
    python tools/compare.py configs/compare/voc.py --list --commands
    python tools/compare.py configs/compare/voc.py --run

All train for 30,000 iterations on frozen CLIP: two-stage methods WeCLIP's decoder, WeCLIP+ and WeCLIP-SAM their own
beside DINOv2. Published figures of CLIP-ES, SEPL and FMA-WSSS have larger second stages (DeepLabV2, Mask2Former) and
are no target here; for DeepLabV2 set ``_decoder`` in a copy of this file, for images in another place ``_where``. SAM
ViT-H's masks come first and take longest, hours on a GPU: ``make_masks.py`` with as many processes as there are GPUs,
or ``--from``, into ``work_dirs/compare/voc/shared/masks`` saves that.
"""
title = 'VOC 2012: single-stage against two-stage systems'
root = 'work_dirs/compare/voc'
seeds = 1
tests = ['single', 'multi', 'crf']
_where = dict(data_root='data/VOCdevkit/VOC2012')
_bank = dict(_where, mask_bank='{masks}')
_labels = 'train_dataloader.dataset.pixel_labels'
_decoder = 'configs/two_stage/offline-decoder_vit-b16_30k_voc.py'
_weclip_sam = 'configs/weclip_sam/weclip-sam_vit-b16_30k_voc.py'
# Made once and used by several methods, whose wall time counts them all the same.
shared = [
    dict(name='masks', tool='make_masks', config=_weclip_sam, options=_where),
    dict(name='clip-es', tool='make_seeds', config='configs/clip_es/clip-es_vit-b16_free_voc.py', options=_where),
    dict(name='sepl', tool='make_seeds', config='configs/sepl/sepl_vit-h_free_voc.py', options=_bank,
         arguments=['--labels', '{clip-es}'])]
_fma_chain = [
    dict(name='class-prompts', tool='train', config='configs/fma/fma-cls-prompts_vit-b16_1800_voc.py', options=_where),
    dict(name='coarse', tool='make_seeds', config='configs/fma/fma-coarse_vit-b16_free_voc.py',
         options={**_bank, 'model.prompts': '{class-prompts}/prompts.safetensors'}),
    # As published, the prompts of the segmentation task begin anew: nothing of the first prompts goes in but the seeds.
    dict(name='segment-prompts', tool='train', config='configs/fma/fma-seg-prompts_vit-b16_17k_voc.py',
         options={**_where, _labels: '{coarse}'}),
    dict(name='fine', tool='make_seeds', config='configs/fma/fma-fine_vit-b16_free_voc.py',
         options={**_bank, 'model.prompts': '{segment-prompts}/prompts.safetensors'})]
methods = [
    dict(name='WeCLIP-SAM', note="ours, single stage, DINOv2 as second eye, SAM's masks", uses=['masks'], stages=[
        dict(name='train', tool='train', config=_weclip_sam, options=_bank)]),
    dict(name='WeCLIP', note='single stage, no SAM', stages=[
        dict(name='train', tool='train', config='configs/weclip/weclip_vit-b16_30k_voc.py', options=_where)]),
    dict(name='WeCLIP+', note='single stage, DINOv2 as second eye, no masks', stages=[
        dict(name='train', tool='train', config='configs/weclip_plus/weclip-plus_vit-b16_30k_voc.py', options=_where)]),
    dict(name='CLIP-ES', note='labels offline, light decoder', uses=['clip-es'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={**_where, _labels: '{clip-es}'})]),
    dict(name='SEPL on CLIP-ES', note='labels offline, light decoder', uses=['masks', 'clip-es', 'sepl'], stages=[
        dict(name='second-stage', tool='train', config=_decoder, options={**_where, _labels: '{sepl}'})]),
    dict(name='FMA-WSSS', note='labels offline, light decoder', uses=['masks'], stages=[
        *_fma_chain,
        dict(name='second-stage', tool='train', config=_decoder, options={**_where, _labels: '{fine}'})])]
pictures = dict(config=_weclip_sam, count=6, extremes=3, focus='WeCLIP-SAM')
terms = [
    'Image labels only: no method opens a mask of a training image.',
    'The same frozen CLIP ViT-B/16, and the same SAM ViT-H with one bank of masks, wherever they are used; WeCLIP-SAM '
    'and WeCLIP+ have a frozen DINOv2 beside them.',
    'Two-stage methods that share labels read the very same label files.',
    'Multi-scale is scales 1 and 0.75 with flip, but for WeCLIP+, which has its published 1 and 1.5.',
    'Every figure is of the last checkpoint; none is chosen by its score on val.']
tuning = [
    dict(what="WeCLIP-SAM: means of the maps, weight of the decoder's prediction, Dice, stride of the decoder",
         where="shapes 'tune', drawn scenes", how='carried over; nothing was tuned on VOC'),
    dict(what='all other settings', where='as published by their authors', how='taken over')]
