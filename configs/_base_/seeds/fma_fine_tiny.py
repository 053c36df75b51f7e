"""FMA-WSSS's fine seeds on the tiny CLIP: the steps of the coarse seeds.

Published are spread='cam' and threshold 0.5 here; on tune they cost 2 to 3 points.
"""
_base_ = './fma_coarse_tiny.py'
