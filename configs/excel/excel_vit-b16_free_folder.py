"""ExCEL's training-free seeds on your own photographs: no gradient, and as fast for many names as for one. Cost: not
measured.

    python tools/make_seeds.py configs/excel/excel_vit-b16_free_folder.py --cfg-options data_root=/where/it/is
"""
_base_ = ['../_base_/datasets/folder.py', '../_base_/models/excel_vit-b16.py', '../_base_/seeds/excel.py']
model = dict(seeds={{_base_.seeds}})
