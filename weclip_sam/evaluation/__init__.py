"""Scores: IoU over the set, image-level mAP, multi-scale fusion."""
from .iou import IoUReport, confusion_matrix, iou_from_confusion
from .metrics import IoUMetric, MultiLabelMAP, average_precision
from .tta import multi_scale_logits

__all__ = ['IoUMetric', 'IoUReport', 'MultiLabelMAP', 'average_precision', 'confusion_matrix', 'iou_from_confusion',
           'multi_scale_logits']
