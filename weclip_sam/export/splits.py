"""Two lists, ``train`` and ``val``, for formats that want them."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence


def split_names(names: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Names to train and to validate with, each sorted.

    Which names validate is drawn by a digest of them: with a few more images most stay where they are. Where ``share``
    is 0, or there is but one image, both lists hold all.
    """
    count = min(max(1, round(share * len(names))), len(names) - 1) if share else 0
    if not count:
        return sorted(names), sorted(names)
    drawn = set(sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())[:count])
    return sorted(set(names) - drawn), sorted(drawn)
