"""Second stage of CLIP-ES on the embedded data set: DeepLabV3 from random weights. Seventeen
minutes on one core. Val on CLIP-ES's seeds: 45.7, 49.8 with multi-scale and CRF (measured, one seed).

    python tools/make_seeds.py configs/clip_es/clip-es_tiny_free_shapes.py
    python tools/train.py configs/two_stage/deeplab-v3_resnet18_800_shapes.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/shapes.py', '../_base_/models/deeplab-v3_resnet18.py',
          '../_base_/schedules/deeplab_800.py', '../_base_/runtime.py']
train_dataloader = dict(dataset=dict(pixel_labels='work_dirs/clip-es_tiny_free_shapes/seeds/train'))
