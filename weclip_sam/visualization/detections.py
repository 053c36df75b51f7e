"""Labels as :class:`supervision.Detections`, to draw, count and filter with supervision."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from weclip_sam.visualization.regions import find_regions, present_labels

if TYPE_CHECKING:
    from supervision import Detections


def to_supervision(labels: np.ndarray, classes: Sequence[str], confidence: np.ndarray | None = None,
                   pieces: bool = False) -> Detections:
    """One detection for each class that occurs, or for each of its connected pieces.

    Args:
        labels: H W uint8: 0 background, 1..C, 255 ignored; neither of the two is a detection.
        classes: C+1 names by label, ``background`` first.
        confidence: H W in [0, 1], how sure each label is.
        pieces: a detection for each 8-connected piece; each has a mask of H * W bytes.

    Returns:
        Detections with ``xyxy``, ``mask`` (N H W bool), ``class_id`` (the label, so ``classes[class_id]`` is its name),
        ``confidence`` (mean over the mask, if there is any) and ``data['class_name']``.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError('supervision is not installed: pip install supervision') from error
    if pieces:
        regions = find_regions(labels)
        found = regions.labels
        masks = [regions.ids == number for number in range(1, len(regions) + 1)]
    else:
        found = np.array(present_labels(labels), np.int64)
        masks = [labels == label for label in found]
    mask = np.stack(masks) if masks else np.zeros((0, *labels.shape), bool)
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(mask).astype(np.float32), mask=mask, class_id=found,
        confidence=None if confidence is None else np.array([confidence[one].mean() for one in mask], np.float32),
        data=dict(class_name=np.array([classes[label] for label in found], dtype=str)))
