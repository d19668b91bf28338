"""The sheet of `python -m benchmark views`: a row for each pretext, of the stored image with the outlines of the first
crops and what each draw shows. Pixels are enlarged by a whole number and never smoothed."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

from benchmark.maps import views
from benchmark.maps.views import Seen, Tile
from benchmark.recipe import Recipe
from tasks.base import DataError, Sample, Source

KINDS = (".png", ".webp")  # of files that are written
SIDE = 192  # of a stored image on the sheet, in pixels, unless it is larger
MARGIN, GAP, APART = 16, 8, 28  # around the sheet, between tiles, between draws
INK, SOFT = "#1d2329", "#59636e"
COLOURS = ("#0b62b5", "#d9700a", "#14743f", "#c2255c", "#7d3fa8", "#5b6167")  # of kinds of crops, and of target blocks


class Row(NamedTuple):
    """A pretext."""

    name: str
    told: str  # what it sees, in words
    draws: Sequence[Seen]


def font(size: int, weight: str = "") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{weight}.ttf", size)


BOLD, TEXT, SMALL = font(16, "-Bold"), font(15), font(12)
SYNTHETIC = "SYNTHETIC: a simulated phantom, not clinical evidence"
LINE, CAPTION = 22, 18  # heights of a line of text and of a caption


def show(
    recipes: Mapping[str, Recipe], source: Source, sample: Sample, data: Path, draws: int, out: Path
) -> Iterator[str]:
    """Write the sheet of those recipes, by the names of their pretexts, and say what it shows."""
    first = next(iter(recipes.values()))
    image = views.read_square(source, sample, data, first.stored_pixels)
    rows = []
    for pretext, recipe in recipes.items():
        seen = views.look(recipe, f"{source.name}/{sample.id}", image, draws)
        rows.append(Row(views.name_pretext(pretext), views.describe(seen), seen))
        yield f"{rows[-1].name}: {rows[-1].told}"
    heads = [
        f"{source.title}: {sample.id}",
        f"{source.modality}, {first.track} track, seed {first.seed}, policy {source.policy}",
    ]
    heads += [SYNTHETIC] if source.synthetic else []
    save(draw(image, rows, heads), [f"{row.name}: {row.told}" for row in rows], out)
    yield str(out)


def draw(image: np.ndarray, rows: Sequence[Row], heads: Sequence[str]) -> Image.Image:
    """image: as stored, uint8 (S, S, 3); heads: lines above all, what the image is and by which settings it is seen."""
    scale = max(1, SIDE // len(image))
    drawn = [[_draw_cell(views.make_tiles(seen), scale) for seen in row.draws] for row in rows]
    across = max(cell.width for cells in drawn for cell in cells)
    start = MARGIN + scale * len(image) + APART
    lefts = [start + place * (across + APART) for place in range(len(rows[0].draws))]
    width = lefts[-1] + across + MARGIN
    strips = [_write_lines(width, "", [line for head in heads for line in wrap(head, width - 2 * MARGIN)])]
    for row, cells in zip(rows, drawn, strict=True):
        strips.append(_write_lines(width, row.name, wrap(row.told, width - 2 * MARGIN)))
        strips.append(_draw_row(width, _outline(image, row.draws[0], scale), cells, lefts))
    out = Image.new("RGB", (width, sum(strip.height for strip in strips) + MARGIN), "white")
    top = MARGIN // 2
    for strip in strips:
        out.paste(strip, (0, top))
        top += strip.height
    return out


def save(picture: Image.Image, told: Sequence[str], out: Path) -> None:
    """Without loss, and with those lines as the picture's description. Raises DataError where it cannot be written."""
    about = Image.Exif()
    about[ExifTags.Base.ImageDescription] = "\n".join(told)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(out, exif=about, optimize=True, lossless=True, method=6)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); choose another place with --out") from error


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most that many pixels."""
    most = len(text)
    while max(map(TEXT.getlength, lines := textwrap.wrap(text, most))) > width:
        most -= 1
    return lines


def _write_lines(width: int, name: str, lines: Sequence[str]) -> Image.Image:
    lines = [name, *lines] if name else lines
    strip = Image.new("RGB", (width, LINE * len(lines) + GAP), "white")
    pen = ImageDraw.Draw(strip)
    for place, line in enumerate(lines):
        pen.text((MARGIN, LINE * place), line, fill=INK, font=BOLD if name and not place else TEXT)
    return strip


def _draw_row(width: int, image: Image.Image, cells: Sequence[Image.Image], lefts: Sequence[int]) -> Image.Image:
    strip = Image.new("RGB", (width, CAPTION + max(part.height for part in (image, *cells)) + APART // 2), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((MARGIN, 0), "stored, crops of epoch 0", fill=SOFT, font=SMALL)
    strip.paste(image, (MARGIN, CAPTION))
    for epoch, (left, cell) in enumerate(zip(lefts, cells, strict=True)):
        pen.text((left, 0), f"epoch {epoch}", fill=SOFT, font=SMALL)
        strip.paste(cell, (left, CAPTION))
    return strip


def _outline(image: np.ndarray, seen: Seen, scale: int) -> Image.Image:
    """The stored image with the outlines of the crops of a draw, a colour for each kind."""
    picture = enlarge(image, scale)
    pen = ImageDraw.Draw(picture)
    for boxes, colour in zip(seen.boxes.values(), COLOURS, strict=False):
        for left, top, right, bottom in (boxes * picture.width).round().astype(int).tolist():
            pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=2)
    return picture


def _draw_cell(lines: Sequence[Sequence[Tile]], scale: int) -> Image.Image:
    """The tiles of a draw, line by line, each above its caption."""
    sizes = [[scale * len(tile.pixels) for tile in line] for line in lines]
    width = max(sum(line) + GAP * (len(line) - 1) for line in sizes)
    cell = Image.new("RGB", (width, sum(max(line) + CAPTION + GAP for line in sizes) - GAP), "white")
    pen, top = ImageDraw.Draw(cell), 0
    for line, sides in zip(lines, sizes, strict=True):
        left = 0
        for tile, side in zip(line, sides, strict=True):
            cell.paste(_frame(tile, scale), (left, top))
            pen.text((left, top + side + 2), tile.caption, fill=SOFT, font=SMALL)
            left += side + GAP
        top += max(sides) + CAPTION + GAP
    return cell


def _frame(tile: Tile, scale: int) -> Image.Image:
    picture = enlarge(tile.pixels, scale)
    pen = ImageDraw.Draw(picture)
    for place, block in enumerate(tile.blocks):
        left, top, right, bottom = (scale * end for end in block)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=COLOURS[place % len(COLOURS)], width=2)
    return picture


def enlarge(pixels: np.ndarray, scale: int) -> Image.Image:
    return Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
