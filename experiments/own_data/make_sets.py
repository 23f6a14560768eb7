"""Makes the four sets of this record: `python experiments/own_data/make_sets.py PACKAGES SETS`.

PACKAGES is a folder that Debian 12's packages are unpacked in (`apt-get download NAME`, then `dpkg -x FILE PACKAGES`): those of
README.md. The digits need scikit-learn. The same packages give the same files.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from string import ascii_uppercase

from PIL import Image, ImageDraw, ImageFont

RANKS = ("ace", *map(str, range(2, 11)), "jack", "queen", "king")
SUITS = ("club", "diamond", "heart", "spade")
HELD_DECKS = ("anglo", "anglo_bitmap", "dondorf", "neoclassical", "neoclassical_4_color", "paris", "rheinland", "tango")
OTHER_DECKS = ("swiss-xvii", "Атласные")  # other suits, and a deck that is there twice
NO_LETTERS = ("asana", "cwtex", "noto", "isabella", "symbol", "dings", "math", "standardsymbols", "keyboard", "webfont")


def main() -> None:
    """Writes each set to a folder of its own."""
    packages, sets = map(Path, sys.argv[1:])
    digits(sets / "digits")
    letters(packages / "usr/share/fonts", sets / "letters")
    cards(packages, sets / "cards")
    photographs(packages / "usr/share/backgrounds", sets / "photographs")


def save(image: Image.Image, *parts: str | Path) -> None:
    """Writes a PNG file into folders that are made when needed."""
    path = Path(*parts).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def digits(out: Path) -> None:
    """scikit-learn's 1,797 handwritten digits (UCI, 1998), 8 x 8, grey: a flat folder."""
    from sklearn.datasets import load_digits

    data = load_digits()
    for index, (levels, label) in enumerate(zip(data.images, data.target, strict=True)):
        save(Image.fromarray((levels * 255 / 16).round().astype("uint8")), out, str(label), f"{index:04}")


def letters(fonts: Path, out: Path) -> None:
    """The 26 capitals in up to three typefaces of each package, 32 x 32, grey; every third package is for the test."""
    for index, package in enumerate(sorted({path.parent for path in fonts.rglob("*.[to]tf")})):
        files = [
            path for path in sorted(package.glob("*.[to]tf")) if not any(w in str(path).lower() for w in NO_LETTERS)
        ]
        for path in files[:: max(1, len(files) // 3)][:3]:
            drawn = [letter(path, character) for character in ascii_uppercase]
            for character, image in zip(ascii_uppercase, drawn, strict=True):
                save(image, out, "test" if index % 3 == 2 else "train", character, f"{index:02}-{path.stem}")


def letter(path: Path, character: str) -> Image.Image:
    """A dark letter in the middle of a light square."""
    font = ImageFont.truetype(str(path), 26)
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (32, 32), 255)
    ImageDraw.Draw(image).text((16 - (left + right) / 2, 16 - (top + bottom) / 2), character, fill=0, font=font)
    return image


def cards(packages: Path, out: Path) -> None:
    """The 52 cards of 29 French decks, 32 x 48, colour; eight decks are for the test."""
    for sheet in sorted((packages / "usr/share/aisleriot/cards").glob("*.svgz")):
        if sheet.stem in OTHER_DECKS:
            continue
        command = [packages / "usr/bin/rsvg-convert", "-w", str(13 * 32), "-h", str(5 * 48), sheet]
        drawn = Image.open(BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)).convert("RGBA")
        table = Image.new("RGBA", drawn.size, (40, 100, 60))
        table.alpha_composite(drawn)
        for row, suit in enumerate(SUITS):
            for column, rank in enumerate(RANKS):
                card = table.crop((32 * column, 48 * row, 32 * (column + 1), 48 * (row + 1))).convert("RGB")
                save(card, out, "val" if sheet.stem in HELD_DECKS else "train", f"{suit}_{rank}", sheet.stem)


def photographs(backgrounds: Path, out: Path) -> None:
    """100 pieces, 48 x 36, of each of 24 photographs, which are the classes; no two overlap: a flat folder."""
    drawn = ("Fossa", "Infinite", "Painting", "analogpattern", "umang")
    paths = [*backgrounds.glob("*.jpg"), *(backgrounds / "mate" / "nature").glob("*.jpg")]
    for path in sorted(path for path in paths if not path.name.startswith(drawn))[:24]:
        photograph = Image.open(path).convert("RGB")
        scale = (800 * 600 / (photograph.width * photograph.height)) ** 0.5
        photograph = photograph.resize((round(photograph.width * scale), round(photograph.height * scale)))
        for index, box in enumerate(random.Random(0).sample(list(boxes(*photograph.size)), 100)):
            save(photograph.crop(box), out, path.stem.partition("_by_")[0].lower(), f"{index:02}")


def boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """The pieces of a grid."""
    for top in range(0, height - 35, 36):
        for left in range(0, width - 47, 48):
            yield left, top, left + 48, top + 36


if __name__ == "__main__":
    main()
