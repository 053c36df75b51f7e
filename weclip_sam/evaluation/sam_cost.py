"""What SAM did with predictions, and what that cost."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weclip_sam.evaluation.metrics import PerImageMetric
from weclip_sam.registry import METRICS


@dataclass(frozen=True)
class SamReport:
    """Sums and means over images.

    Attributes:
        images: how many.
        masks_per_image: None where no step asked for masks.
        live: images whose masks were made for the prediction; those of others came from a bank.
        without_masks: images that have none, and so keep their prediction.
        seconds_per_image: of making masks and of the steps that look at SAM.
    """

    images: int
    masks_per_image: float | None
    live: int
    without_masks: int
    seconds_per_image: float

    @classmethod
    def of(cls, uses: Sequence[tuple[int | None, bool, float]]) -> SamReport:
        """From (masks, whether live, seconds) of each image."""
        masks = [count for count, _, _ in uses if count is not None]
        return cls(len(uses), sum(masks) / len(masks) if masks else None, sum(live for _, live, _ in uses),
                   masks.count(0), sum(seconds for _, _, seconds in uses) / max(1, len(uses)))

    def text(self) -> str:
        """One line."""
        told = f'SAM: {self.seconds_per_image:.3g} s an image'
        if self.masks_per_image is not None:
            told += f', {self.masks_per_image:.1f} masks an image, ' + (
                f'made live for {self.live} of {self.images} images' if self.live else 'all from a bank')
        if self.without_masks:
            told += f'; {self.without_masks} of {self.images} images have no mask and keep their prediction'
        return told

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@METRICS.register_module()
class SamCost(PerImageMetric):
    """The :class:`SamReport` of a test, from the sample field ``sam``.

    Attributes:
        last_report: of the last evaluation.
    """

    last_report: SamReport | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep every image's counts and seconds."""
        self.results += [(str(self._field(sample, 'image_id')), tuple(self._field(sample, 'sam')))
                         for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Over all images."""
        self.last_report = SamReport.of(results)
        return dict(sam_seconds_per_image=self.last_report.seconds_per_image)
