"""Second stage of CLIP-ES on your own photographs (--cfg-options data_root=/where/it/is for both commands). Cost: not
measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_folder.py
    python tools/train.py configs/two_stage/deeplab-v2_resnet101_5k_folder.py

Seeds of another method: --cfg-options train_dataloader.dataset.pixel_labels=DIR
"""
_base_ = ['../_base_/datasets/folder.py', '../_base_/models/deeplab-v2_resnet101.py',
          '../_base_/schedules/deeplab_5k.py', '../_base_/runtime.py']
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(save_best=None))
train_dataloader = dict(batch_size=10, dataset=dict(pixel_labels='work_dirs/clip-es_vit-b16_free_folder/seeds/train'))
