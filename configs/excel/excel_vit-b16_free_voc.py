"""ExCEL's training-free seeds on VOC 2012. Published seeds on VOC train: 74.6. Cost: not measured.

    python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/make_seeds.py configs/excel/excel_vit-b16_free_voc.py --evaluate

WeCLIP's decoder on these labels: python tools/train.py configs/two_stage/offline-decoder_vit-b16_30k_voc.py
--cfg-options train_dataloader.dataset.pixel_labels=work_dirs/excel_vit-b16_free_voc/seeds/train
"""
_base_ = ['../_base_/datasets/voc.py', '../_base_/models/excel_vit-b16.py', '../_base_/seeds/excel.py']
model = dict(seeds={{_base_.seeds}})
