"""Segment a photo with an exported network: python use_onnx.py model.onnx photo.jpg labels.png"""
import json
import math
import sys

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    sys.exit(f'error: {error.name} is missing: pip install onnxruntime numpy pillow')

if len(sys.argv) != 4:
    sys.exit(__doc__)
ROUND, BILINEAR = dict(nearest=round, down=math.floor, up=math.ceil), Image.Resampling.BILINEAR


def resized(image, step):
    longest = max(image.size)
    side = min(max(longest, step['least']), step['most'] or longest)
    units = [ROUND[step['round']](each * side / longest / step['unit']) for each in image.size]
    return image.resize([max(1, each) * step['unit'] for each in units], Image.Resampling[step['filter'].upper()])


session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])
card = json.loads(session.get_modelmeta().custom_metadata_map['weclip_sam'])
photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert('RGB')
image = resized(photo, card['read'])  # what the training's reader makes of a photo
for step in card['resize']:  # and the network sees this one
    image = resized(image, step)
whole = [max(-(-side // card['divisor']) * card['divisor'], card['smallest']) for side in image.size]  # patches
padded = Image.new('RGB', whole, (card['pad_value'],) * 3)
padded.paste(image)
logits = session.run(['logits'], {'image': np.asarray(padded).transpose(2, 0, 1)[None]})[0][0]
winner, most = np.zeros(photo.size[::-1], np.uint8), np.full(photo.size[::-1], -np.inf, np.float32)
for label, plane in enumerate(logits):  # drawn at the size of the photo
    plane = Image.fromarray(plane).resize(whole, BILINEAR).crop((0, 0, *image.size))
    plane = np.asarray(plane.resize(photo.size, BILINEAR))
    winner[plane > most] = label
    most = np.maximum(most, plane)
labels = Image.fromarray(winner)
labels.putpalette(sum(card['palette'], []))
labels.save(sys.argv[3])
