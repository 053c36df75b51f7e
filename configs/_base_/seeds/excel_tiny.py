"""ExCEL's training-free seeds on the tiny CLIP: four calibrated blocks, the block that localises, boxes as on tune."""
seeds = [
    dict(type='ExcelMaps', blocks=4),
    dict(type='AttentionAffinity', layers=[2], threshold=0.5),
    dict(type='Par'),
    dict(type='PixelLabels')]
