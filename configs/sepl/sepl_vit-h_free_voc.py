"""SEPL: SAM masks improve CLIP-ES's seeds of VOC 2012, or anybody's label PNGs (--labels DIR). Published, VOC val, with
CLIP-ES's second stage: 73.1. Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_voc.py
    python tools/make_masks.py configs/sepl/sepl_vit-h_free_voc.py
    python tools/make_seeds.py configs/sepl/sepl_vit-h_free_voc.py --evaluate
"""
_base_ = ['../_base_/datasets/voc_sam.py', '../_base_/methods/sepl_vit-h.py']
input_labels = 'work_dirs/clip-es_vit-b16_free_voc/seeds/{split}'
