"""WeCLIP's decoder on frozen CLIP as a second stage, on labels made offline: what online labels bring. No published
score. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_voc.py
    python tools/train.py configs/two_stage/offline-decoder_vit-b16_30k_voc.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/methods/offline_decoder_vit-b16.py',
          '../_base_/schedules/30k.py']
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/clip-es_vit-b16_free_voc/seeds/train'))
