"""ExCEL's training-free seeds on COCO 2014. No published score of the seeds alone. Cost: not measured.

    python tools/prepare_coco.py data/coco
    python tools/make_seeds.py configs/excel/excel_vit-b16_free_coco.py --evaluate

WeCLIP's decoder on these labels: python tools/train.py configs/two_stage/offline-decoder_vit-b16_80k_coco.py
--cfg-options train_dataloader.dataset.pixel_labels=work_dirs/excel_vit-b16_free_coco/seeds/train
"""
_base_ = ['../_base_/datasets/coco.py', '../_base_/models/excel_vit-b16.py', '../_base_/seeds/excel_coco.py']
model = dict(seeds={{_base_.seeds}})
