"""Second stage of CLIP-ES on VOC. Published (CLIP-ES, ImageNet weights): 71.1 val, 71.4 test. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_voc.py
    python tools/train.py configs/two_stage/deeplab-v2_resnet101_20k_voc.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/deeplab-v2_resnet101.py',
          '../_base_/schedules/deeplab_20k.py', '../_base_/runtime.py']
train_dataloader = dict(batch_size=10, dataset=dict(pixel_labels='work_dirs/clip-es_vit-b16_free_voc/seeds/train'))
