"""SAM masks on disk: made once, kept for good, shared by everything that needs them.

A bank is a folder:

``bank.json``
    which data set, which folder of images and which mask generator it belongs to.
``shard-*.masks``
    one record a line: CRC-32 of the text, a blank, JSON with the image's id, size, a digest of the file if the masks
    were imported, and per mask the COCO RLE, level, predicted IoU and stability. Only ever appended to, and only by the
    process that created it, so any number of processes and machines fill one bank without a lock.
``shard-*.index``
    where each record lies. A convenience: what it lacks is found by reading the shard.
``photos-*.jsonl``
    which photo each record was made of (:class:`weclip_sam.io.identity.FileIdentity`; new records say it themselves,
    too), as one list a line: image id, generation of its record, [H, W] of the masks, longest side the photo was shrunk
    to or null, [bytes, time, digest].

A record that takes the place of an older one, because the photo was replaced, goes into a shard of a higher generation,
``shard-*.g1.masks`` and so on: of several records of an image those of the highest generation count. Such a bank has
version 2, so that a program which knows none of this refuses it instead of taking the older record.

A record counts once its line is complete. Whatever a killed process left behind its last complete line is ignored by
readers, and nobody appends after it.
"""
from weclip_sam.mask_bank.bank import MadeOf, MaskBank
from weclip_sam.mask_bank.features import FeatureBank, FeatureMap, feature_folder
from weclip_sam.mask_bank.header import (
    FORMAT,
    HEADER,
    IMPORTED,
    VERSION,
    WITH_GENERATIONS,
    bank_precision,
    holds_imported,
)
from weclip_sam.mask_bank.photos import masks_of_photo

__all__ = ['FORMAT', 'HEADER', 'IMPORTED', 'VERSION', 'WITH_GENERATIONS', 'FeatureBank', 'FeatureMap', 'MadeOf',
           'MaskBank', 'bank_precision', 'feature_folder', 'holds_imported', 'masks_of_photo']
