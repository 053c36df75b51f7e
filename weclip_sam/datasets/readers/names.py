"""Names that lie beside the images: ``classes.txt``, ``prompts.json``, ``background.txt``."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from weclip_sam.datasets.readers.faults import find_file
from weclip_sam.datasets.vocabulary import (
    COCO_BACKGROUND_NOUNS,
    check_class_names,
    check_count,
    check_plain_list,
    numbers_labels,
)
from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json, read_lines

CLASS_FILE = 'classes.txt'
PROMPT_FILE = 'prompts.json'
NOUN_FILE = 'background.txt'


def read_classes(root: Path, classes: str | Sequence[str] | None) -> list[str] | None:
    """Class names in label order.

    Args:
        root: the data folder.
        classes: the names, or the path of a file with one a line, relative to ``root``; None takes ``classes.txt``.

    Returns:
        The names, or None where nothing names them.

    Raises:
        FileNotFoundError: when the file that was asked for is missing.
        ValueError: naming the file, when it holds no names, or one twice, or one of the background, which would shift
            all labels by one.
    """
    if classes is None and (root / CLASS_FILE).is_file():
        classes = CLASS_FILE
    if classes is None:
        return None
    source = 'classes'
    if isinstance(classes, str):
        path = find_file(root / classes, 'the class list', 'It has one class name a line')
        classes, source = read_lines(path), str(path)
        check_count([normal(name) for name in classes], source)
    check_class_names(classes, source, 'leave it out: label 1 is the first line that stays')
    classes = list(classes)
    check_plain_list(classes, source)
    if numbers_labels(classes):
        raise ValueError(f"{source}: lists the numbers of labels, and '0' would be label 1, but label 0 is the "
                         "background; list the names of the classes (or, if '0' is a class, give it a name)")
    return classes


def read_prompts(root: Path, prompts: str | Mapping[str, str | Sequence[str]] | None
                 ) -> dict[str, str | Sequence[str]]:
    """Texts that stand for classes in prompts.

    Args:
        root: the data folder.
        prompts: texts by class name, or the path of a JSON file of such, relative to ``root``; None takes
            ``prompts.json`` if it exists.

    Raises:
        FileNotFoundError: when the file that was asked for is missing.
        ValueError: naming the file, when it is no JSON object.
    """
    if prompts is None and (root / PROMPT_FILE).is_file():
        prompts = PROMPT_FILE
    if not isinstance(prompts, str):
        return dict(prompts or {})
    path = find_file(root / prompts, 'the file of prompt names', 'It maps class names to texts or lists of synonyms')
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f'{path}: expected an object that maps class names to texts or lists of synonyms')
    return data


def read_nouns(root: Path, nouns: str | Sequence[str] | None) -> list[str]:
    """What else may be seen in the images.

    Args:
        root: the data folder.
        nouns: the nouns, or the path of a file with one a line, relative to ``root``; None takes ``background.txt`` if
            it exists, else those for COCO.

    Raises:
        FileNotFoundError: when the file that was asked for is missing.
    """
    if nouns is None and (root / NOUN_FILE).is_file():
        nouns = NOUN_FILE
    if isinstance(nouns, str):
        nouns = read_lines(find_file(root / nouns, 'the file of background nouns', 'It has one noun a line'))
    return list(COCO_BACKGROUND_NOUNS if nouns is None else nouns)
