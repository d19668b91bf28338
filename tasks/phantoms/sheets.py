"""Contact sheets of the phantoms, from the development seed: `python -m tasks.phantoms.sheets FOLDER`.

Four for each modality: the eight combinations of latents; the knobs; the levels of locality; the distances of the
relation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tasks import host
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.relation import APART

COLUMNS = 7
ENLARGE = 2
PIXELS = 64
MARGIN = 120  # pixels of the sheet, for the name of each row
COLOURS = 96  # of the palette: a sheet should stay small
TURNED = [Knobs(contrast=value) for value in (0.5, 1.0, 1.5)] + [Knobs(speckle=value) for value in (0.0, 0.5, 2.0)]

Row = tuple[str, scenes.Family, list[int]]  # name, family, patients


def latents(modality: str) -> list[Row]:
    """A row for each combination of latents."""
    family, rows = scenes.family(modality, scenes.DEVELOPMENT), {}
    for patient in range(8 * COLUMNS):
        rows.setdefault(tuple(family.latents("train", patient).items()), []).append(patient)
    return [
        ("\n".join(name for name, there in truth if there) or "none", family, patients)
        for truth, patients in sorted(rows.items(), key=lambda row: (sum(there for _, there in row[0]), row[0]))
    ]


def knobs(modality: str) -> list[Row]:
    """A row for each setting of contrast and speckle, the same patients in each."""
    every = list(range(COLUMNS))
    families = [scenes.family(modality, scenes.DEVELOPMENT, turned) for turned in TURNED]
    return [(family.knobs.name.lstrip("-") or "calibrated", family, every) for family in families]


def locality(modality: str) -> list[Row]:
    """A row without and one with the texture at each level, the same patients in each."""
    families = [scenes.family(modality, scenes.DEVELOPMENT, Knobs(locality=level)) for level in LEVELS]
    every = [patient for patient in range(100) if families[0].latents("train", patient)[scenes.TEXTURE]][:COLUMNS]
    rows = [(f"locality {family.knobs.locality}", family, every) for family in families]
    return [("no texture", scenes.family(modality, scenes.DEVELOPMENT), every), *rows]


def relation(modality: str) -> list[Row]:
    """A row for each distance and label, the same patients at each distance."""
    rows = []
    for distance in APART:
        family = scenes.family(modality, scenes.DEVELOPMENT, Knobs(relation=distance))
        for label, word in ((1, "alike"), (0, "different")):
            chosen = [p for p in range(100) if family.latents("train", p)["relation"] == label][:COLUMNS]
            rows.append((f"{distance}\n{word}", family, chosen))
    return rows


def sheet(modality: str, rows: list[Row]) -> Image.Image:
    side = (PIXELS + 1) * ENLARGE
    out = Image.new("RGB", (MARGIN + COLUMNS * side, 16 + len(rows) * side), "white")
    pen = ImageDraw.Draw(out)
    pen.text((4, 2), f"SYNTHETIC {modality}, simulated patients, not clinical evidence", fill="black")
    for row, (name, family, patients) in enumerate(rows):
        pen.multiline_text((4, 20 + row * side), name, fill="black")
        for column, patient in enumerate(patients):
            image = family.read(None, scenes.Sample(family.address("train", patient, 0), 0, "", ""), PIXELS)
            enlarged = np.repeat(np.repeat(image, ENLARGE, axis=0), ENLARGE, axis=1)
            out.paste(Image.fromarray(enlarged), (MARGIN + column * side, 16 + row * side))
    return out.quantize(COLOURS, dither=Image.Dither.NONE)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for modality in scenes.MODALITIES:
        for rows in (latents, knobs, locality, relation):
            path = folder / f"{modality}-{rows.__name__}.png"
            sheet(modality, rows(modality)).save(path, optimize=True)
            print(f"wrote {path}")


if __name__ == "__main__":
    host.use_utf8()
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/phantoms"))
