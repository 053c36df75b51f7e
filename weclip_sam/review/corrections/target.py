"""The images that corrections are of, and the classes that their labels shall have."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath

from weclip_sam.checks import suggest_name
from weclip_sam.io.folders import find_files
from weclip_sam.io.images import fit_within, image_size, is_image_name, strip_suffix
from weclip_sam.io.names import normal
from weclip_sam.offline.results import LabelFolder, LabelledImage
from weclip_sam.review.corrections.photos import is_same_picture
from weclip_sam.visualization import class_colors


@dataclass(frozen=True)
class Target:
    """What imported labels shall fit.

    Attributes:
        classes: C+1 names by label, background first.
        palette: RGB triples by label.
        photos: by the image's name, its file; None where nobody knows the images: then every name is good.
        folder: of the photos, if they were given so.
        like: earlier labels of images, by name.
    """

    classes: tuple[str, ...]
    palette: Sequence[Sequence[int]]
    photos: Mapping[str, Path | None] | None = None
    folder: Path | None = None
    like: Mapping[str, LabelledImage] = field(default_factory=dict)

    @classmethod
    def build(cls, classes: Sequence[str], like: LabelFolder | None = None, images: str | os.PathLike | None = None
              ) -> Target:
        """Images are those of the folder of photos, if there is one, else those of the earlier labels.

        Raises:
            FileNotFoundError: there is no such folder of photos.
            ValueError: no image in it, or two of one name.
        """
        known: dict[str, Path | None] | None = None if like is None else {one.name: one.image for one in like}
        before = {} if like is None else {one.name: one for one in like}
        if images is not None:
            photos = _photos(Path(images))
            before = {found: one for one in before.values() if (found := match(one.name, photos)[0]) is not None}
            known = {**photos}
        palette = like.palette if like is not None and len(like.palette) >= len(classes) else \
            class_colors(len(classes)).tolist()
        return cls(tuple(classes), palette, known, None if images is None else Path(images).resolve(), before)

    def photo_folder(self) -> Path | None:
        """Where the photos are, if they lie in one folder under the names of their labels."""
        if self.folder is not None:
            return self.folder
        folders = set()
        for name, photo in (self.photos or {}).items():
            path = '' if photo is None else normal(strip_suffix(photo.absolute().as_posix()))
            if not path.endswith(f'/{name}'):
                return None
            folders.add(Path(path[:-len(name)]))
        return folders.pop() if len(folders) == 1 else None

    def find(self, name: str, where: str, suggest: bool = True, file: str = '') -> str:
        """The image that a source calls so, its ``file`` with the suffix. To ``suggest`` another takes a while among
        thousands.

        Raises:
            ValueError: there is none, or it could be several.
        """
        if self.photos is None:
            return name
        file = normal(file)
        if (known := _end(name, self.photos) or _end(file, self.photos)) is not None:
            return known  # before any image whose path only ends like this one's
        found, several = match(name, self.photos)
        if not several and file:
            found, several = match(file, self.photos)
        if found is None and several:
            raise ValueError(f'{where}: {name!r} could be {several[0]!r} or {several[1]!r}')
        if found is None:
            near = suggest_name(name, list(self.photos)[:5000]) if suggest else ''
            raise ValueError(f'{where}: there is no image {name!r}.{near}')
        return found

    def is_photo(self, file: str, where: str, content: BytesIO) -> bool:
        """Whether a PNG of a source is the very photo that it is called after, and no label of it.

        Args:
            file: its path with suffix, as the source has it.
            where: its file, or what to call it.
            content: what is in it.
        """
        if not self.photos:
            return False
        try:
            photo = self.photos[self.find(strip_suffix(file), where, False, file)]
        except ValueError:  # whoever takes it says so
            return False
        return photo is not None and is_same_picture(photo, where, content)

    def check_size(self, name: str, size: tuple[int, int], where: str) -> None:
        """Compare labels with their photo (or with earlier labels); both shrunk alike is fine.

        Raises:
            ValueError: another (height, width).
        """
        photo, earlier = (self.photos or {}).get(name), self.like.get(name)
        file = photo if photo is not None and photo.is_file() else None if earlier is None else earlier.labels
        if file is None:
            return
        whole = image_size(file)
        if size != whole and size != fit_within(whole, max(size)):
            raise ValueError(f'{where}: {size[1]} x {size[0]} pixels, but {file} has {whole[1]} x {whole[0]}; correct '
                             'the label of this very photo, unscaled')


def match(name: str, known: Iterable[str]) -> tuple[str | None, list[str]]:
    """The known name that ``name`` means, and all that it could mean: itself, or the one that is its end or has it as
    its end, whole parts of a path only. Tools of annotation drop folders, or put some before."""
    known = known if isinstance(known, Mapping) else dict.fromkeys(known)
    if (end := _end(name, known)) is not None:
        return end, [end]
    found = [each for each in known if each.endswith(f'/{name}')]
    return (found[0] if len(found) == 1 else None), found


def _end(name: str, known: Mapping[str, object]) -> str | None:
    """The longest end of a name that is known, whole parts of a path only."""
    parts = PurePosixPath(name).parts
    tails = (name, *('/'.join(parts[first:]) for first in range(1, len(parts))))
    return next((tail for tail in tails if tail in known), None)


def _photos(folder: Path) -> dict[str, Path | None]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of images')
    found: dict[str, Path | None] = {}
    for path in find_files(folder, is_image_name).files:
        name = normal(strip_suffix(path.relative_to(folder).as_posix()))
        if name in found:
            raise ValueError(f'{folder}: {found[name]} and {path} have one name but for the suffix, and so would their '
                             'labels; rename or remove one')
        found[name] = path
    if not found:
        raise ValueError(f'{folder}: holds no image')
    return found
