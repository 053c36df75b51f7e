"""Letters on pictures: which font has them, and what stands for those that none has.

Pictures are written in DejaVu Sans, which comes with matplotlib: Latin with all its accents, Greek, Cyrillic, Arabic,
Hebrew and many signs. Other letters (Chinese, Japanese, Korean, Thai...) are written in the first font of this machine
that has them. Where there is none, a class is called by its label (``label 3``, as in the label PNG), and in other
texts a question mark stands for each letter. So the same picture can differ between machines, for such names alone.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont
WHITE, BLACK = (255, 255, 255), (12, 12, 12)


@lru_cache(maxsize=64)
def load_font(size: int, file: str = '', bold: bool = False) -> Font:
    """A font of so many pixels: DejaVu Sans, or that of a file."""
    own = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / f'DejaVuSans{"-Bold" if bold else ""}.ttf'
    return ImageFont.truetype(file or str(own), size)


def one_line(text: str) -> str:
    """A text without line breaks, tabs, and what cannot be seen."""
    return ''.join(letter for letter in ' '.join(str(text).split()) if letter.isprintable())


def written(text: str, size: int, instead: str | None = None, bold: bool = False) -> tuple[str, Font]:
    """What to write for a text, and the font that has all of its letters.

    Args:
        text: any; it becomes one line.
        size: of the letters, pixels.
        instead: for a text with letters that no font has; None puts a question mark for each of them.
        bold: where DejaVu Sans has the letters.
    """
    text = one_line(text)
    letters = frozenset(ord(letter) for letter in text)
    if missing := letters - letters_of(''):
        if file := font_with(letters):
            return text, load_font(size, file)
        text = instead if instead is not None else ''.join('?' if ord(one) in missing else one for one in text)
    return text, load_font(size, bold=bold)


@lru_cache(maxsize=1024)
def letters_of(file: str) -> frozenset[int]:
    """Code points that a font file has (DejaVu Sans, if empty); none of a file that cannot be read."""
    from matplotlib.ft2font import FT2Font  # with the first text, not with the package

    try:
        return frozenset(FT2Font(file or load_font(10).path).get_charmap())
    except (RuntimeError, OSError, ValueError):
        return frozenset()


@lru_cache(maxsize=256)
def font_with(letters: frozenset[int]) -> str:
    """A font of this machine with all these code points; empty where there is none."""
    from matplotlib.font_manager import findSystemFonts

    def unlike(file: str) -> tuple[bool, str]:
        name = Path(file).name.lower()
        return any(style in name for style in ('bold', 'italic', 'oblique', 'black', 'light', 'thin')), file
    for file in sorted(findSystemFonts(), key=unlike):
        if letters <= letters_of(file):
            try:
                load_font(12, file)
            except OSError:
                continue  # of pictures in one size, say
            return file
    return ''


def shortened(text: str, font: Font, width: float) -> str:
    """A text that is no wider than so many pixels: cut, with an ellipsis at its end."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle].rstrip() + '…') <= width else (low, middle - 1)
    return text[:low].rstrip() + '…'


def wrapped(text: str, size: int, width: float) -> list[str]:
    """A text in lines of at most so many pixels, broken between words."""
    text, font = written(text, size)
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f'{lines[-1]} {word}') <= width:
            lines[-1] += f' {word}'
        else:
            lines.append(shortened(word, font, width))
    return lines


def halo(size: int) -> int:
    """How far the dark rim of letters of so many pixels goes."""
    return max(1, round(size / 9))


def write_on(picture: Image.Image, at: tuple[float, float], text: str, font: Font) -> None:
    """White letters with a dark rim, seen on any photograph; ``at`` is the middle of the text, (x, y)."""
    ImageDraw.Draw(picture).text(at, text, fill=WHITE, font=font, anchor='mm', stroke_width=halo(round(font.size)),
                                 stroke_fill=BLACK)


def write_across(picture: Image.Image, text: str, size: int) -> None:
    """A sentence in the middle of a picture, in smaller letters where it is narrow; left out where it has no room."""
    for letters in (size, max(round(0.75 * size), 11)):
        lines, step = wrapped(text, letters, picture.width - letters), 1.4 * letters
        if len(lines) * step <= picture.height and not any('…' in line for line in lines):
            for row, line in enumerate(lines):
                line, font = written(line, letters)
                write_on(picture, (picture.width / 2, picture.height / 2 + (row - (len(lines) - 1) / 2) * step), line,
                         font)
            return
