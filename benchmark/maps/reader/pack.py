"""One HTML page for each reader, that needs nothing beside it, and the sealed key.

    <pack>/reader-<code>.html     to the reader: opaque ids, images and maps inside, no network
    <pack>/pack.json              questions, primary comparison and test, SHA-256 of pages and key: frozen first
    <pack>/sealed/key.parquet     which item shows what; not to be opened, nor sent, before the answers are in
    <pack>/sealed/seed            of every draw

Every map of every arm is drawn alike: enlarged without smoothing, spread linearly from its lowest to its highest value,
in viridis, which the colour-blind can read; its grey image is beside it.
"""

import base64
import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib import colormaps
from PIL import Image

from benchmark.maps.reader import design
from benchmark.maps.reader.design import Case
from benchmark.storage import temporary
from tasks.base import DataError

PIXELS, QUALITY = 256, 85  # of a picture
LARGEST = 30_000_000  # bytes of a page
KEY, ABOUT = Path("sealed") / "key.parquet", "pack.json"
TEMPLATE = Path(__file__).with_name("pack.html.j2")
QUESTIONS = {
    "relevance": "The highlighted regions include the structures needed for the diagnosis",
    "spurious": "The map highlights irrelevant or artefactual regions",
    "choice": "Which of the two maps better matches what you would look at?",
}
ANCHORS = ("not at all", "a little", "partly", "mostly", "completely")
TEXTS = ("reader", "item", "kind", "case", "arm", "other", "repeats", "group", "task", "label")
KEY_SCHEMA = pa.schema([*((name, pa.string()) for name in TEXTS), ("practice", pa.bool_())])


class Pack(NamedTuple):
    folder: Path
    about: dict  # pack.json
    key: list[dict]  # rows of KEY_SCHEMA


def make(
    cases: Sequence[Case],
    practice: Sequence[Case],
    readers: Sequence[str],
    seed: int,
    out: Path,
    *,
    arms: dict[str, str],
    modality: str,
    primary: tuple[str, str],
) -> Path:
    """Write the pack. arms: method -> run; controls are added by the maps that the cases hold.

    Raises DataError where `out` is there, or a page would be too large; ValueError for a reader's code that is no code.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; a pack is frozen once made: name another by --out")
    for code in readers:
        if not code.isalnum():
            raise ValueError(f"reader {code!r}: use a code of letters and digits, never a name")
    shown = [*arms, *(arm for arm in design.CONTROLS if all(arm in case.maps for case in [*cases, *practice]))]
    by_id = {case.case: case for case in [*cases, *practice]}
    order = [case.case for case in cases], [case.case for case in practice]
    part = temporary.beside(out)
    (part / KEY).parent.mkdir(parents=True)
    try:
        rows, pages = [], {}
        every = [design.make_items(*order, shown, number, seed) for number in range(len(readers))]
        names = "".join(item.item for items in every for item in items)
        pack = hashlib.sha256(names.encode()).hexdigest()[:12]
        for code, items in zip(readers, every, strict=True):
            page = render_page(pack, code, items, by_id)
            if len(page) > LARGEST:
                raise DataError(
                    f"{len(page) / 1e6:.0f} MB for a reader's page, over {LARGEST / 1e6:.0f}: fewer --cases"
                )
            (part / f"reader-{code}.html").write_bytes(page)
            pages[f"reader-{code}.html"] = hashlib.sha256(page).hexdigest()
            for item in items:
                case = by_id[item.case]
                rows.append(
                    {"reader": code, **item._asdict(), **{n: getattr(case, n) for n in ("group", "task", "label")}}
                )
        pq.write_table(pa.Table.from_pylist(rows, schema=KEY_SCHEMA), part / KEY)
        (part / KEY).with_name("seed").write_text(f"{seed}\n", encoding="utf-8")
        about = {
            "pack": pack,
            "modality": modality,
            "tasks": sorted({case.task for case in cases}),
            "cases": len(cases),
            "arms": arms,
            "controls": [arm for arm in shown if arm in design.CONTROLS],
            "readers": list(readers),
            "questions": QUESTIONS,
            "primary": list(primary),
            "test": "Bradley-Terry strengths of the choices, primary difference, 95 %, cases left out in turn",
            "pages": pages,
            "key": hashlib.sha256((part / KEY).read_bytes()).hexdigest(),
        }
        (part / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def render_page(pack: str, reader: str, items: Sequence[design.Item], cases: dict[str, Case]) -> bytes:
    """The page of a reader. Maps are numbered in the order in which they are first shown."""
    images: dict[str, str] = {}
    maps: dict[tuple[str, str], str] = {}
    screens = []
    for item in items:
        case = cases[item.case]
        images.setdefault(item.case, encode_picture(case.image))
        shown = [(item.case, arm) for arm in (item.arm, item.other) if arm]
        for one in shown:
            if one not in maps:
                maps[one] = encode_picture(colour(case.maps[one[1]]))
        numbers = [list(maps).index(one) for one in shown]
        screen = {"item": item.item, "kind": item.kind, "image": list(images).index(item.case), "maps": numbers}
        screens.append(screen | {"practice": item.practice})
    pictures = {"images": list(images.values()), "maps": list(maps.values())}
    data = {"pack": pack, "reader": reader, "screens": screens} | pictures
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = TEMPLATE.read_text(encoding="utf-8")
    policy = "; ".join(
        f"{kind}-src 'sha256-{_digest_tag(source, tag)}'" for kind, tag in (("script", "script"), ("style", "style"))
    )
    text = environment.from_string(source).render(
        policy=f"default-src 'none'; img-src data:; {policy}",
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        questions=QUESTIONS,
        anchors=ANCHORS,
    )
    return text.encode()


def _digest_tag(source: str, tag: str) -> str:
    """Base64 SHA-256 of the text of the template's only <tag>, which holds nothing that is filled in."""
    text = source.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def colour(values: np.ndarray) -> np.ndarray:
    """A map (h, w) -> uint8 (h, w, 3)."""
    low, high = values.min(), values.max()
    return (colormaps["viridis"]((values - low) / max(high - low, 1e-12))[..., :3] * 255).round().astype(np.uint8)


def encode_picture(pixels: np.ndarray) -> str:
    """uint8 (h, w, 3) as a data address: a WebP of PIXELS a side without any metadata; small maps are not smoothed."""
    smooth = Image.Resampling.LANCZOS if pixels.shape[0] > 32 else Image.Resampling.NEAREST
    file = io.BytesIO()
    Image.fromarray(pixels).resize((PIXELS, PIXELS), smooth).save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def read(folder: Path) -> Pack:
    """A pack with its key. Raises DataError where a part is missing or is not what was frozen."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        sealed = (folder / KEY).read_bytes()
        frozen = {**about["pages"], str(KEY): about["key"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{folder}: not a pack of `reader make` ({error!r}); name its folder") from error
    found = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in frozen if (folder / name).exists()
    }
    found[str(KEY)] = hashlib.sha256(sealed).hexdigest()
    if changed := sorted(name for name in frozen if name in found and found[name] != frozen[name]):
        raise DataError(f"{folder / changed[0]}: changed since the pack was made; use the pack as it was frozen")
    return Pack(folder, about, pq.read_table(pa.BufferReader(sealed), schema=KEY_SCHEMA).to_pylist())
