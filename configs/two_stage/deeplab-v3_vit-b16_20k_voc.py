"""Second stage of CLIP-ES on VOC with a vision transformer. No published score. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_voc.py
    python tools/train.py configs/two_stage/deeplab-v3_vit-b16_20k_voc.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/deeplab-v3_vit-b16.py', '../_base_/schedules/deeplab_20k.py',
          '../_base_/runtime.py']
train_dataloader = dict(batch_size=10, dataset=dict(pixel_labels='work_dirs/clip-es_vit-b16_free_voc/seeds/train'))
