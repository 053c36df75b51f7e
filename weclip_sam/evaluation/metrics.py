"""mmengine metrics: mIoU of predicted labels and mAP of image-level scores."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from weclip_sam.evaluation.iou import IoUReport, confusion_matrix
from weclip_sam.evaluation.truth import TruthCheck, TruthRecord, compare_truth, no_class_in_truth
from weclip_sam.io.files import write_json
from weclip_sam.registry import METRICS


class PerImageMetric(BaseMetric):
    """Keeps one small record per image and counts every image once, whatever the sampler repeats to fill a batch.

    Records travel between processes over torch.distributed; nothing is written to disk for that.
    """

    # Not None, or mmengine warns about it: names as short as 'mIoU' are wanted here.
    default_prefix = ''

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the records of all processes, score them (the same numbers everywhere), forget them.

        Args:
            size: images in the data set; fewer distinct images than that is an error, since the score would be
                about another set.
        """
        shards: list[dict[str, Any]] = all_gather_object(dict(self.results))
        self.results.clear()
        records = {image_id: record for shard in shards for image_id, record in shard.items()}
        if len(records) != size:
            raise ValueError(f'{type(self).__name__}: {len(records)} different images were scored but the data set '
                             f'has {size}; image ids must be unique and every image must be predicted')
        metrics = self.compute_metrics([records[key] for key in sorted(records)])
        return {f'{self.prefix}/{key}' if self.prefix else key: value for key, value in metrics.items()}

    def _class_names(self, background: bool) -> tuple[str, ...]:
        classes = tuple((self.dataset_meta or {}).get('classes', ()))
        if not classes:
            raise ValueError(f"{type(self).__name__} needs the class names: the data set's metainfo has no 'classes'")
        return ('background', *classes) if background else classes

    @staticmethod
    def _field(sample: dict, key: str) -> Any:
        if sample.get(key) is None:
            raise ValueError(f"image {sample.get('image_id', '?')!r}: its sample has no '{key}'; evaluation data sets "
                             "set ground_truth (with_masks=True) and image_id, the model's predict sets the rest")
        return sample[key]


@METRICS.register_module()
class IoUMetric(PerImageMetric):
    """mIoU over the set, from predicted labels at the size of the ground truth.

    Per image only the non-zero cells of its confusion matrix are kept, so a large set with many classes stays small.

    Args:
        prediction_key: the sample field that is scored: H W integers, 0 background, 1..C.
        prefix: of the metric names, e.g. ``'seed'`` gives ``seed/mIoU``.
        json_path: where to write the table as JSON on every evaluation; None for nowhere (the summary hook sets it to
            a file in the work dir).
        print_table: whether to log the per-class table on every evaluation.

    Metrics (percent): ``mIoU``, ``mAcc``, ``aAcc``. The per-class table of the last evaluation is ``last_report``.
    Where samples say what an image is named for (``image_labels``), the ground truth is compared with that
    (``last_truth``), and a disagreement is told once, with the first table. So is ground truth that
    holds no class, but 255.
    """

    def __init__(self, prediction_key: str = 'prediction', prefix: str | None = None, json_path: str | None = None,
                 print_table: bool = True, **kwargs: Any) -> None:
        super().__init__(prefix=prefix, **kwargs)
        self.prediction_key = prediction_key
        self.json_path = json_path
        self.print_table = print_table
        self.last_report: IoUReport | None = None
        self.last_truth: TruthCheck | None = None
        self._told = False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of one batch."""
        num_classes = len(self._class_names(background=True))
        for sample in data_samples:
            image_id = str(self._field(sample, 'image_id'))
            truth = self._field(sample, 'ground_truth')
            matrix = confusion_matrix(self._field(sample, self.prediction_key), truth, num_classes,
                                      name=f"image '{image_id}'").flatten().cpu()
            cells = matrix.nonzero().squeeze(1)
            named = sample.get('image_labels')
            named = None if named is None else named.cpu().flatten().nonzero().squeeze(1).numpy()
            self.results.append((image_id, (image_id, cells.numpy(), matrix[cells].numpy(), named,
                                            truth.numel() - int(matrix.sum()))))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum the images' counts and score the sum."""
        classes = self._class_names(background=True)
        total = torch.zeros(len(classes) ** 2, dtype=torch.int64)
        for _, cells, counts, *_ in results:
            total[torch.from_numpy(cells)] += torch.from_numpy(counts)
        report = IoUReport.from_confusion(total.view(len(classes), -1), classes, len(results))
        self.last_report = report
        self.last_truth = compare_truth(_truth_records(results, len(classes)), classes[1:])
        if is_main_process():
            if self.print_table:
                title = f'{self.prefix or self.prediction_key}: IoU by class, percent'
                MMLogger.get_current_instance().info('\n' + report.format(title))
                empty = no_class_in_truth(report.pixels, sum(ignored for *_, ignored in results))
                wrong = [f'ground truth: {empty}'] * bool(empty) + [self.last_truth.message()]
                if any(wrong) and not self._told:
                    for told in filter(None, wrong):
                        MMLogger.get_current_instance().warning(told)
                    self._told = True
            if self.json_path:
                truth = dict(ground_truth_check=self.last_truth.to_json()) if self.last_truth.disagreeing else {}
                write_json(self.json_path, report.to_json() | truth)
        return dict(mIoU=100 * report.miou, mAcc=100 * report.mean_accuracy, aAcc=100 * report.pixel_accuracy)


def _truth_records(results: list, num_labels: int) -> Iterator[TruthRecord]:
    for image_id, cells, counts, named, _ in results:
        if named is not None:
            pixels: dict[int, int] = {}
            for label, count in zip((cells // num_labels).tolist(), counts.tolist(), strict=True):  # rows are the truth
                pixels[label] = pixels.get(label, 0) + count
            yield TruthRecord(image_id, frozenset((named + 1).tolist()), pixels)


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Area under the precision-recall curve, one value per class (average precision at each true image).

    Images with equal scores share one threshold, so the order of the images does not matter.

    Args:
        scores: N C float.
        labels: N C bool.

    Returns:
        C float64 in [0, 1]; NaN for classes that no image has.
    """
    result = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
    for index in range(scores.shape[1]):
        order = scores[:, index].argsort(descending=True, stable=True)
        ranked, hits = scores[order, index], labels[order, index].double()
        if hits.sum() == 0:
            continue
        # The last image of each run of equal scores: only there is the threshold a real one.
        ends = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
        found = hits.cumsum(0)[ends]
        seen = torch.arange(1, len(hits) + 1, dtype=torch.float64)[ends]
        gained = torch.diff(found, prepend=torch.zeros(1, dtype=torch.float64))
        result[index] = (gained * found / seen).sum() / hits.sum()
    return result


@METRICS.register_module()
class MultiLabelMAP(PerImageMetric):
    """Mean average precision of image-level scores, over the classes that some image has.

    Scored is the sample field ``image_scores`` (C, higher is surer). Metric (percent): ``mAP``.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep every image's scores and labels."""
        for sample in data_samples:
            image_id = str(self._field(sample, 'image_id'))
            scores = self._field(sample, 'image_scores').detach().float().cpu()
            labels = self._field(sample, 'image_labels').bool().cpu()
            if scores.shape != labels.shape:
                raise ValueError(f"image '{image_id}': image_scores {tuple(scores.shape)} and image_labels "
                                 f'{tuple(labels.shape)} must both have one value per class')
            self.results.append((image_id, (scores.numpy(), labels.numpy())))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average precision per class over all images, then the mean."""
        scores = torch.stack([torch.from_numpy(s) for s, _ in results])
        labels = torch.stack([torch.from_numpy(y) for _, y in results])
        return dict(mAP=100 * average_precision(scores, labels).nanmean().item())
