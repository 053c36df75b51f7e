"""Scores: IoU over the set, image-level mAP."""
from weclip_sam.evaluation.iou import IoUReport, confusion_matrix, iou_from_confusion
from weclip_sam.evaluation.metrics import IoUMetric, MultiLabelMAP, average_precision

__all__ = ['IoUMetric', 'IoUReport', 'MultiLabelMAP', 'average_precision', 'confusion_matrix', 'iou_from_confusion']
