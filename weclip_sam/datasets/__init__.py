"""Images with image-level labels: readers, the data set, transforms and samplers."""
from weclip_sam.datasets.features import LoadFeatures
from weclip_sam.datasets.image_label import ImageLabelDataset
from weclip_sam.datasets.packing import LoadMasks, LoadPixelLabels, PackSample, UseGroundTruth
from weclip_sam.datasets.readers.base import Reader, Record
from weclip_sam.datasets.readers.coco import CocoReader
from weclip_sam.datasets.readers.folder import FolderReader
from weclip_sam.datasets.readers.voc import VocReader
from weclip_sam.datasets.samplers import InfiniteSeededSampler, SampleIndex
from weclip_sam.datasets.shapes.reader import ShapesReader
from weclip_sam.datasets.transforms import (
    ColorJitter,
    RandomCrop,
    RandomFlip,
    RandomScale,
    ResizeLong,
    ResizeToMultiple,
)
from weclip_sam.datasets.vocabulary import COCO_VOCABULARY, VOC_VOCABULARY, Vocabulary

__all__ = [
    'COCO_VOCABULARY', 'CocoReader', 'ColorJitter', 'FolderReader', 'ImageLabelDataset', 'InfiniteSeededSampler',
    'LoadFeatures', 'LoadMasks', 'LoadPixelLabels', 'PackSample', 'RandomCrop', 'RandomFlip', 'RandomScale', 'Reader',
    'Record', 'ResizeLong', 'ResizeToMultiple', 'SampleIndex', 'ShapesReader', 'UseGroundTruth',
    'VOC_VOCABULARY', 'VocReader', 'Vocabulary',
]
