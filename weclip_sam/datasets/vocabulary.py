"""Names: the classes of the data sets, how CLIP is asked for them, and what else there is to see."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.colors import class_colors, voc_palette
from weclip_sam.io.names import normal

MAX_CLASSES = 254  # labels are uint8: 0 is background and 255 means ignore

# Candidates for tools/select_prompt.py, which ranks them by sharpness on the user's own images.
CANDIDATE_TEMPLATES = (
    'a clean origami {}.', 'a photo of a {}.', 'a photo of the {}.', 'a good photo of a {}.', 'a bad photo of a {}.',
    'a close-up photo of a {}.', 'a cropped photo of a {}.', 'a bright photo of a {}.', 'a dark photo of a {}.',
    'a blurry photo of a {}.', 'a photo of a clean {}.', 'a photo of a dirty {}.', 'a photo of a large {}.',
    'a photo of a small {}.', 'a photo of one {}.', 'a photo of many {}.', 'a drawing of a {}.', 'a painting of a {}.',
    'a rendering of a {}.', 'a sculpture of a {}.', 'a toy {}.', 'a plastic {}.', 'an origami {}.', 'itap of a {}.',
    'there is a {} in the scene.', '{}.')

VOC_CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
    'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
VOC_PROMPT_NAMES = {
    'bird': 'bird avian', 'chair': 'chair seat', 'person': 'person with clothes,people,human',
    'tvmonitor': 'tvmonitor screen'}
VOC_BACKGROUND_NOUNS = (
    'ground', 'land', 'grass', 'tree', 'building', 'wall', 'sky', 'lake', 'water', 'river', 'sea', 'railway',
    'railroad', 'keyboard', 'helmet', 'cloud', 'house', 'mountain', 'ocean', 'road', 'rock', 'street', 'valley',
    'bridge', 'sign')

COCO_CLASSES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant',
    'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard',
    'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli',
    'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant', 'bed', 'dining table', 'toilet',
    'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink',
    'refrigerator', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')
COCO_PROMPT_NAMES = {
    'person': 'person with clothes,people,human', 'bird': 'bird avian', 'backpack': 'backpack,bag',
    'umbrella': 'umbrella,parasol', 'handbag': 'handbag,purse', 'tie': 'necktie', 'baseball glove': 'glove',
    'spoon': 'dessertspoon', 'chair': 'chair seat', 'tv': 'tvmonitor screen', 'remote': 'remote control',
    'hair drier': 'hairdrier,blowdrier'}
COCO_BACKGROUND_NOUNS = tuple(noun for noun in VOC_BACKGROUND_NOUNS if noun not in ('keyboard', 'sign'))

# How tools of annotation call what is no class: in what way background is written, and pixels that do not count.
_BACKGROUND, _IGNORED = {'background'}, {'ignore', 'ignored', 'void', 'unlabeled', 'unlabelled'}


def _plain(name: Any) -> str:
    return name.strip().strip('_<>[](){}').casefold() if isinstance(name, str) else ''


def is_background(name: Any) -> bool:
    """Whether a name means what is no object: ``background``, ``_background_``, ``__background__``, ``Background``."""
    return _plain(name) in _BACKGROUND


def is_ignored(name: Any) -> bool:
    """Whether a name means pixels that do not count: ``__ignore__``, ``void``, ``unlabeled``..."""
    return _plain(name) in _IGNORED


def is_number(name: str) -> bool:
    """Whether a name is a number, or several: label numbers, or rows of 0 and 1, in the place of names."""
    return any(map(str.isdigit, name)) and not name.strip('0123456789.,+-; ')


def numbers_labels(names: Sequence[str]) -> bool:
    """Whether a list of names is that of the numbers of the labels, 0 first."""
    return len(names) > 0 and list(names) == list(map(str, range(len(names))))


def check_plain_list(names: Sequence[str], source: str) -> None:
    """Refuse a list of names that has comments, or numbers before the names: other labels would be meant than told.

    Raises:
        ValueError: naming ``source``.
    """
    if comment := next((name for name in names if isinstance(name, str) and name.startswith('#')), None):
        raise ValueError(f'{source}: {comment!r:.60} is a comment, and every line is a class; leave it out')
    for lines in (list(names), list(names)[1:]):  # perhaps below a header
        parts = [re.match(r'(\d+)[\s:;,.]+(.*)', name) for name in lines if isinstance(name, str)]
        found = [(int(part[1]), part[2]) for part in parts if part]
        numbers, bare = [number for number, _ in found], {name for _, name in found}
        if len(found) > 1 and len(bare) == len(lines) and numbers == list(range(numbers[0], numbers[0] + len(lines))):
            raise ValueError(f'{source}: has numbers before the names ({lines[0]!r:.60}); write the names alone, one a '
                             'line in the order of the labels, label 1 first')


def check_class_names(names: Iterable[str], source: str, advice: str = 'leave it out') -> None:
    """Refuse names of the background, and of pixels that do not count, among the names of classes.

    Raises:
        ValueError: naming ``source`` and the name.
    """
    for name in names:
        if is_background(name) or is_ignored(name):
            why = 'every image has background' if is_background(name) else 'pixels that do not count have the label 255'
            raise ValueError(f'{source}: {name!r} is no class of its own, {why}; {advice}')


def check_count(names: Sequence[str], source: str = 'classes') -> None:
    """Refuse no names, too many, and one that comes twice.

    Raises:
        ValueError: naming ``source``.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not names or repeated or len(names) > MAX_CLASSES:
        raise ValueError(f'{source}: expected 1 to {MAX_CLASSES} different names, '
                         + (f'got {len(names)}' if names else 'got none: write one class name a line')
                         + (f' with {", ".join(map(repr, repeated))} repeated: every class once' if repeated else ''))


def foreground_names(names: Sequence[str], source: str) -> list[str]:
    """The classes of a list that may begin with a name for label 0.

    Tools of annotation write such lists: ``_background_`` first, or, as labelme does, ``__ignore__`` (which stands for
    -1, 255 in its masks) and then ``_background_`` (0). ``void`` or ``unlabeled`` first is a name for label 0, too. So
    is ``0`` where all names are numbers from it on.

    Raises:
        ValueError: naming ``source``, when such a name stands where it would take the number of a class.
    """
    names = list(names)
    check_plain_list(names, source)
    plain = [_plain(name) for name in names[:2]]
    if len(plain) == 2 and plain[0] == 'ignore' and is_background(names[1]):
        names = names[2:]
    elif plain and (plain[0] in _BACKGROUND | {'void', 'unlabeled', 'unlabelled'} or numbers_labels(names)):
        names = names[1:]
    for place, name in enumerate(names):
        if is_background(name) or is_ignored(name):
            raise ValueError(f'{source}: {name!r} would be label {place + 1}, but background is 0 and what does not '
                             'count is 255: leave it out, and give the masks these labels')
    return names


@dataclass(frozen=True)
class Vocabulary:
    """The names of one data set.

    Attributes:
        classes: the C foreground classes; label = position + 1.
        prompt_names: C texts that stand for the classes in a prompt; synonyms are written one after another.
        background_nouns: G things that are in pictures but are no class.
        left_out: nouns that were given, but name a class.
        voc_colors: whether its label files have VOC's colours, not those of :func:`weclip_sam.colors.class_colors`.
    """

    classes: tuple[str, ...]
    prompt_names: tuple[str, ...]
    background_nouns: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=(), compare=False)
    voc_colors: bool = field(default=False, compare=False)

    @classmethod
    def build(cls, classes: Iterable[str], prompt_names: Mapping[str, str | Sequence[str]] | None = None,
              background_nouns: Iterable[str] = COCO_BACKGROUND_NOUNS) -> Vocabulary:
        """Check the names and fill in what was not given.

        Args:
            classes: the class names, in label order.
            prompt_names: for some classes, another text for prompts: a string, or several synonyms, which are joined
                by commas (CLIP-ES writes synonyms into one sentence instead of averaging their embeddings).
            background_nouns: nouns that are no class; those that name a class or a synonym of one, capitals aside,
                are left out.

        Raises:
            ValueError: on no, repeated, empty or too many classes, or prompt names of a class that does not exist.
        """
        classes = tuple(normal(name) if isinstance(name, str) else name for name in classes)
        check_count(classes)
        if any(not isinstance(name, str) or name != name.strip() or not name for name in classes):
            raise ValueError(f'classes: every name must be a non-empty string without outer blanks, got {classes}')
        given = {normal(str(name)): text for name, text in (prompt_names or {}).items()}
        for name in given:
            if name not in classes:
                raise ValueError(f'prompt_names: {name!r} is no class of this data set.{suggest_name(name, classes)}')
        texts = tuple(_prompt_text(name, given.get(name, name)) for name in classes)
        taken = {word.strip().casefold() for text in (*classes, *texts) for word in text.split(',')}
        nouns = [normal(noun) for noun in background_nouns]
        return cls(classes, texts, tuple(noun for noun in nouns if noun.casefold() not in taken),
                   tuple(noun for noun in nouns if noun.casefold() in taken))

    @property
    def num_classes(self) -> int:
        """Without the background."""
        return len(self.classes)

    def index(self, name: str, source: str) -> int:
        """The position of a class.

        Raises:
            ValueError: naming ``source`` and the nearest class, when there is none of that name, or saying that it
                means the background.
        """
        try:
            return self.classes.index(normal(name))
        except ValueError:
            check_class_names([name], source)
            hint = suggest_name(name, self.classes) or f' The classes are: {", ".join(self.classes[:30])}.'
            hint += ' They are called by name, not by number.' if is_number(name) else ''
            raise ValueError(f'{source}: unknown class {name!r}.{hint} Else add it to classes.txt in the data folder '
                             "(or to the reader's classes).") from None

    def metainfo(self) -> dict[str, Any]:
        """What mmengine calls the meta information of a data set; plain types, so that checkpoints can hold it."""
        count = len(self.classes) + 1
        palette = voc_palette(count) if self.voc_colors else [tuple(color) for color in class_colors(count).tolist()]
        return dict(classes=self.classes, prompt_names=self.prompt_names, background_nouns=self.background_nouns,
                    palette=palette)


def _prompt_text(name: str, text: str | Sequence[str]) -> str:
    words = [text] if isinstance(text, str) else list(text) if isinstance(text, (list, tuple)) else []
    if not words or any(not isinstance(word, str) or not word.strip() for word in words):
        raise ValueError(f'prompt_names[{name!r}]: expected a text or a list of texts, got {text!r}')
    return ','.join(word.strip() for word in words)


# Label files of these data sets have these colours everywhere, and pictures of labels have the colours of the files.
VOC_VOCABULARY = replace(Vocabulary.build(VOC_CLASSES, VOC_PROMPT_NAMES, VOC_BACKGROUND_NOUNS), voc_colors=True)
COCO_VOCABULARY = replace(Vocabulary.build(COCO_CLASSES, COCO_PROMPT_NAMES, COCO_BACKGROUND_NOUNS), voc_colors=True)
