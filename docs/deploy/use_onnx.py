"""Segment a photo with an exported network: python use_onnx.py model.onnx photo.jpg labels.png"""
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
card = json.loads(session.get_modelmeta().custom_metadata_map['weclip_sam'])
image = ImageOps.exif_transpose(Image.open(photo)).convert('RGB')
given, side = image.size, card['read_side']
if side and max(given) > side:
    image = image.resize([max(1, round(s * side / max(given))) for s in given], Image.Resampling.BICUBIC)
seen = image.size
for step in card['resize']:  # the network was tested on images of this size
    size = image.size
    if step['rule'] == 'multiple':
        size = [-(-s // step['size']) * step['size'] for s in image.size]
    elif max(image.size) > step['size'] or not step['only_shrink']:
        size = [max(1, s * step['size'] // max(image.size)) for s in image.size]
    image = image.resize(size, Image.Resampling[step['filter'].upper()])
width, height = image.size
whole = [max(-(-s // card['divisor']) * card['divisor'], card['smallest']) for s in image.size]  # patches
padded = Image.new('RGB', whole, (card['pad_value'],) * 3)
padded.paste(image)
logits = session.run(['logits'], {'image': np.asarray(padded).transpose(2, 0, 1)[None]})[0][0]
planes = [Image.fromarray(plane).resize(whole, Image.Resampling.BILINEAR) for plane in logits]
planes = [plane.crop((0, 0, width, height)).resize(seen, Image.Resampling.BILINEAR) for plane in planes]
labels = np.argmax(planes, 0).astype(np.uint8)
result = Image.fromarray(labels).resize(given, Image.Resampling.NEAREST)
result.putpalette([value for colour in card['palette'] for value in colour])
result.save(out)
for label in np.unique(labels):
    print(f'{card["classes"][label]}: {np.mean(labels == label):.1%}')
