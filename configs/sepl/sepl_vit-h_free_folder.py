"""SEPL: SAM masks improve CLIP-ES's seeds of your own photographs, or anybody's label PNGs (--labels DIR).
Training-free. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_folder.py
    python tools/make_masks.py configs/sepl/sepl_vit-h_free_folder.py
    python tools/make_seeds.py configs/sepl/sepl_vit-h_free_folder.py
"""
_base_ = ['../_base_/datasets/folder_sam.py', '../_base_/methods/sepl_vit-h.py']
input_labels = 'work_dirs/clip-es_vit-b16_free_folder/seeds/{split}'
