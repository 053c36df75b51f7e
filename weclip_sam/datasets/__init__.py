"""Images with image-level labels: readers, the data set, transforms and samplers."""
from .coco import CocoReader
from .folder import FolderReader
from .image_label import ImageLabelDataset
from .packing import LoadMasks, LoadPixelLabels, PackSample, UseGroundTruth
from .reader import Reader, Record
from .samplers import InfiniteSeededSampler, SampleIndex
from .shapes_reader import ShapesReader
from .transforms import (
    ColorJitter,
    PadToMultiple,
    RandomCrop,
    RandomFlip,
    RandomScale,
    Resize,
    ResizeLong,
    ResizeToMultiple,
)
from .voc import VocReader
from .vocabulary import COCO_VOCABULARY, VOC_VOCABULARY, Vocabulary

__all__ = [
    'COCO_VOCABULARY', 'CocoReader', 'ColorJitter', 'FolderReader', 'ImageLabelDataset', 'InfiniteSeededSampler',
    'LoadMasks', 'LoadPixelLabels', 'PackSample', 'PadToMultiple', 'RandomCrop', 'RandomFlip', 'RandomScale',
    'Reader', 'Record', 'Resize', 'ResizeLong', 'ResizeToMultiple', 'SampleIndex', 'ShapesReader', 'UseGroundTruth',
    'VOC_VOCABULARY', 'VocReader', 'Vocabulary',
]
