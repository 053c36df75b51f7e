"""SEPL: SAM masks improve CLIP-ES's seeds of COCO 2014, or anybody's label PNGs (--labels DIR). No published score.
Cost: not measured.

    python tools/make_seeds.py configs/clip_es/clip-es_vit-b16_free_coco.py
    python tools/make_masks.py configs/sepl/sepl_vit-h_free_coco.py
    python tools/make_seeds.py configs/sepl/sepl_vit-h_free_coco.py --evaluate
"""
_base_ = ['../_base_/datasets/coco_sam.py', '../_base_/methods/sepl_vit-h.py']
input_labels = 'work_dirs/clip-es_vit-b16_free_coco/seeds/{split}'
