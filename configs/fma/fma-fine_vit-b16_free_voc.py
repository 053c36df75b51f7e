"""FMA-WSSS on VOC 2012, step 4 of 4: fine seeds with the prompts of step 3. Published seeds on train_aug: 74.2 (73.9
reproduced); second stage Mask2Former Swin-L 82.6-83.1 val. Cost: not measured.

The whole chain, then a second stage on its seeds:

    python tools/train.py configs/fma/fma-cls-prompts_vit-b16_1800_voc.py
    python tools/make_masks.py configs/fma/fma-coarse_vit-b16_free_voc.py
    python tools/make_seeds.py configs/fma/fma-coarse_vit-b16_free_voc.py
    python tools/train.py configs/fma/fma-seg-prompts_vit-b16_17k_voc.py
    python tools/make_seeds.py configs/fma/fma-fine_vit-b16_free_voc.py --evaluate
    python tools/train.py configs/two_stage/deeplab-v2_resnet101_20k_voc.py --work-dir work_dirs/fma_voc \
        --cfg-options train_dataloader.dataset.pixel_labels=work_dirs/fma-fine_vit-b16_free_voc/seeds/train
"""
_base_ = ['../_base_/datasets/voc_sam.py', '../_base_/models/seed_maker_vit-b16.py', '../_base_/models/sam_vit-h.py',
          '../_base_/seeds/fma_fine.py']
model = dict(seeds={{_base_.seeds}}, prompts='work_dirs/fma-seg-prompts_vit-b16_17k_voc/prompts.safetensors')
