"""FMA-WSSS on COCO 2014, step 4 of 4: fine seeds with the prompts of step 3. Published seeds: 47.5; second stage 55.4
val. Cost: not measured.

The whole chain, then a second stage on its seeds:

    python tools/train.py configs/fma/fma-cls-prompts_vit-b16_1800_coco.py
    python tools/make_masks.py configs/fma/fma-coarse_vit-b16_free_coco.py
    python tools/make_seeds.py configs/fma/fma-coarse_vit-b16_free_coco.py
    python tools/train.py configs/fma/fma-seg-prompts_vit-b16_17k_coco.py
    python tools/make_seeds.py configs/fma/fma-fine_vit-b16_free_coco.py --evaluate
    python tools/train.py configs/two_stage/deeplab-v2_resnet101_100k_coco.py --work-dir work_dirs/fma_coco \
        --cfg-options train_dataloader.dataset.pixel_labels=work_dirs/fma-fine_vit-b16_free_coco/seeds/train
"""
_base_ = ['../_base_/datasets/coco_sam.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/fma_fine_coco.py']
model = dict(seeds={{_base_.seeds}}, prompts='work_dirs/fma-seg-prompts_vit-b16_17k_coco/prompts.safetensors')
