"""ExCEL's training-free seeds on VOC: patch-text similarity on the calibrated path, attention affinity, PAR.

As in the public code the heads of the calibrated path are summed, tokens normalised over the image, all classes
compared, and the class token counts when a map is stretched; the sane forms are the step's defaults. Published forms
that are not taken: images squashed to squares, and attention that counts blocks of the calibrated path as often as they
have heads.
"""
seeds = [
    dict(type='ExcelMaps', blocks=5, heads='sum', normalise='tokens', texts='all', stretch='tokens'),
    dict(type='AttentionAffinity', layers=6, threshold=0.79, rounds=3, power=2),
    dict(type='Par', iterations=20, dilations=(1, 2, 4, 8, 12, 24)),
    dict(type='PixelLabels')]
