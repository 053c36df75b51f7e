"""One of two processes that fill two banks: one that the first has filled when the second comes, and one with an image
that fails. Both write down what all of them said."""
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank

from weclip_sam.mask_bank import MaskBank
from weclip_sam.offline import masks
from weclip_sam.offline.masks import MaskBankHook
from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet

IDS = ('a', 'b', 'c')


class Images(SimpleNamespace):
    def __len__(self):
        return len(self.image_ids)


@MODELS.register_module()
class ToyGenerator(torch.nn.Module):
    def fingerprint(self):
        return 'toy'

    def generate_batch(self, images, pulse=None):
        one = torch.ones(1)
        return [MaskSet(torch.ones(1, *i.shape[:2], dtype=torch.bool), one.long(), one, one, one.long())
                for i in images]


def main(folder):
    torch.distributed.init_process_group('gloo')
    for failing in ('none', 'b'):
        said = all_gather_object(fill(f'{folder}/{failing}', failing))
        Path(folder, f'{failing}{get_rank()}.json').write_text(json.dumps(said))
    torch.distributed.destroy_process_group()


def fill(bank, failing):
    def take_photos(opened, data):
        changed = take(opened, data)  # all meet here
        if failing == 'none' and get_rank() == 1:
            while not _complete(bank):
                time.sleep(0.05)
            opened.refresh()
        return changed

    def load_image(index):
        if IDS[index] == failing:
            raise ValueError('torn')
        return np.zeros((8, 8, 3), np.uint8)
    ids, take, masks.take_photos = IDS[:1] if failing == 'none' else IDS, masks.take_photos, take_photos
    data = Images(image_ids=ids, image_folder=None, load_image=load_image, reader=SimpleNamespace(max_side=None),
                  records=[SimpleNamespace(image_id=image_id, image_path=None) for image_id in ids])
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=data), model=torch.nn.Linear(1, 1),
                             logger=SimpleNamespace(info=lambda text: print(text, flush=True)))
    try:
        MaskBankHook(bank, dict(type='ToyGenerator')).before_train(runner)
    except ValueError as error:
        return str(error)
    finally:
        masks.take_photos = take
    return 'fine'


def _complete(bank):
    try:
        with MaskBank(bank, fingerprint='toy', mode='r') as opened:
            return IDS[0] in opened
    except (FileNotFoundError, ValueError):
        return False


main(*sys.argv[1:])
