"""WeCLIP's decoder on frozen CLIP as a second stage, on labels made offline: what online labels bring. Minutes on two
cores. Val on CLIP-ES's seeds: 62.2 ± 0.8 (measured).

    python tools/make_seeds.py configs/clip_es/clip-es_tiny_free_shapes.py
    python tools/train.py configs/two_stage/offline-decoder_tiny_400_shapes.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/weclip_tiny.py', '../_base_/schedules/400.py',
          '../_base_/runtime.py']
model = dict(labels='offline')
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/clip-es_tiny_free_shapes/seeds/train'))
