"""All pieces of work by the name that the command line knows them by."""
from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import files, iterations, offline, stages
from benchmarks.made_up import Bench
from benchmarks.measure import Case

PARTS: dict[str, Callable[[Bench], Iterator[Case]]] = {
    **iterations.PARTS, **stages.PARTS, **offline.PARTS, **files.PARTS}
ONLY_FULL = {'memory'}
# What depends on it, and so is measured along a curve unless other parts are asked for.
CURVES = dict(batch=['encoder', 'iteration'], size=['encoder', 'par', 'iteration'],
              named=['gradcam', 'maps', 'iteration'], classes=['iteration', 'crf'],
              masks=['votes', 'iteration', 'loading'])
