"""Scores: IoU over the set, image-level mAP, and what SAM costs at test."""
from weclip_sam.evaluation.iou import IoUReport, confusion_matrix, iou_from_confusion
from weclip_sam.evaluation.metrics import IoUMetric, MultiLabelMAP, average_precision
from weclip_sam.evaluation.sam_cost import SamCost, SamReport

__all__ = ['IoUMetric', 'IoUReport', 'MultiLabelMAP', 'SamCost', 'SamReport', 'average_precision', 'confusion_matrix',
           'iou_from_confusion']
