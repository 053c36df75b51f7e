"""The class names of label PNGs that are scored: what those who made them wrote beside them, or what is asked for."""
from __future__ import annotations

from pathlib import Path

from weclip_sam.datasets.packing import SEEDS_HEADER
from weclip_sam.engine.start.class_names import resolve_classes
from weclip_sam.engine.start.predictions import HEADER
from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json


def classes_of_labels(folder: str | Path) -> tuple[Path, tuple[str, ...]] | None:
    """What label PNGs made here are labels of.

    Args:
        folder: where they lie; ``predictions.json`` (of ``tools/predict.py``) or ``seeds.json`` (of
            ``tools/make_seeds.py``) is looked for in it, then in its parent.

    Returns:
        The file that says so and the names of all labels, ``background`` first; None where no file does.
    """
    folder = Path(folder)
    for path in (place / name for place in (folder, folder.resolve().parent) for name in (HEADER, SEEDS_HEADER)):
        try:
            names = read_json(path)['classes'] if folder.is_dir() else None
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                # Predictions are listed with their background, seeds with the classes of the data set.
                names = [normal(name) for name in (names[1:] if path.name == HEADER else names)]
                if names:
                    return path, ('background', *names)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or one that does not say
            continue
    return None


def classes_to_score(spec: str | None, folder: str | Path) -> tuple[tuple[str, ...], str]:
    """The names of all labels for a score of label PNGs.

    Args:
        spec: as for :func:`resolve_classes`; None for what the labels say of themselves, else VOC's.
        folder: where they lie.

    Returns:
        The names, ``background`` first, and a line on where they come from if nobody named them.

    Raises:
        ValueError: as there; or the labels say that they mean other classes, or an order, than ``spec`` does. More
            classes after theirs contradict nothing.
    """
    made = classes_of_labels(folder)
    if spec is None:
        if made is not None:
            return made[1], f'class names are those of {made[0]}'
        return resolve_classes('voc'), ("class names are VOC's 21, since nothing else is said; for others give "
                                        '--classes FILE (one name per line) or the number of labels')
    classes = resolve_classes(spec)
    if made is None or (len(classes) >= len(made[1]) and (spec.isdigit() or classes[:len(made[1])] == made[1])):
        return classes, ''
    path, names = made
    how = 'the same classes in another order' if sorted(names) == sorted(classes) else 'other classes'
    raise ValueError(f"--classes '{spec}': {how} than {path} says of the labels. There: {', '.join(names[1:])}; "
                     f'--classes: {", ".join(classes[1:])}. Leave --classes out to take those of the labels, or give '
                     'the list that they were made with')
