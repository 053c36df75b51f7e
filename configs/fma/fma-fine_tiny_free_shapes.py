"""FMA-WSSS on the embedded data set, step 4 of 4: fine seeds with the prompts of step 3. Minutes on two cores. Labels
on train: 72.5 ± 2.6 (measured).

The whole chain, then a second stage on its seeds:

    python tools/train.py configs/fma/fma-cls-prompts_tiny_200_shapes.py
    python tools/make_masks.py configs/fma/fma-coarse_tiny_free_shapes.py
    python tools/make_seeds.py configs/fma/fma-coarse_tiny_free_shapes.py
    python tools/train.py configs/fma/fma-seg-prompts_tiny_100_shapes.py
    python tools/make_seeds.py configs/fma/fma-fine_tiny_free_shapes.py --evaluate
    python tools/train.py configs/two_stage/deeplab-v3_resnet18_800_shapes.py --work-dir work_dirs/fma_shapes \
        --cfg-options train_dataloader.dataset.pixel_labels=work_dirs/fma-fine_tiny_free_shapes/seeds/train
"""
_base_ = ['../_base_/datasets/shapes_sam.py', '../_base_/models/seed_maker_tiny.py', '../_base_/models/tiny_sam.py',
          '../_base_/seeds/fma_fine_tiny.py']
model = dict(seeds={{_base_.seeds}}, prompts='work_dirs/fma-seg-prompts_tiny_100_shapes/prompts.safetensors')
