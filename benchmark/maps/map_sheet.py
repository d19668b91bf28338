"""`python -m benchmark maps`: the maps of stored runs on the test images of a task, as a sheet, and their scores.

The images are those whose ids come first in an order drawn from the ids alone, one for each group, classes in turn, so
they are the same for every run; where the task knows where the lesion is, only images with one. A sheet that anchors or
images were chosen for is written out and not stored.

    <results>/<modality>/maps/<id>/     maps.parquet sheet.png sheet.svg
"""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark import registry
from benchmark.encoders import encoder, weights
from benchmark.encoders.encoder import Encoder
from benchmark.lab import reproduce
from benchmark.maps import maps
from benchmark.parts import draws
from benchmark.pretexts._base import Pretext
from benchmark.probes.dense import covered
from benchmark.probing import corrupt, features
from benchmark.recipe import EXTERNAL, Recipe, from_json
from benchmark.storage import results, schema, seals
from tasks import splits, store
from tasks.base import DataError, Sample, Task, digest, identity
from tasks.duplicates import scan_grouped
from tasks.reading import squares

IMAGES, SCORED = 4, 200  # of a sheet; of the scores, at most
BATCH = 32  # images whose attention is in memory at once
HEADS = 6  # that a sheet shows, the first ones
STABILITY = {"ultrasound": ("speckle", 2), "histo": ("stain", 2)}  # nuisance and strength
INCH = 1.0  # of a panel
CREDIT = 200  # characters of a line that says whose images are shown
DOTS = 96  # per inch, of the PNG
COLOURS, EDGE = "viridis", "#ff9d3c"


class Opened(NamedTuple):
    """A stored run, ready to look."""

    row: dict  # of `runs`
    recipe: Recipe
    encoder: Encoder
    query: str
    decoder: Pretext | None  # the whole pretext, where its decoder is stored

    @property
    def rebuilds(self) -> bool:
        """Whether its pretext shows predicted pixels."""
        return hasattr(registry.load("pretexts", self.recipe.pretext).Model, "reconstruct")

    @property
    def name(self) -> str:
        kind = " untrained" if self.recipe.budget == 0 else ""
        return f"{self.recipe.pretext}{kind}, seed {self.recipe.seed}"


class Pictures(NamedTuple):
    """Test images of a task as an encoder sees them."""

    samples: list[Sample]
    stored: np.ndarray  # uint8 (B, S, S, 3), of the store
    masks: np.ndarray | None  # bool (B, side, side) at the encoder's size; None where the task knows no place

    def some(self, rows: slice) -> Pictures:
        return Pictures(self.samples[rows], self.stored[rows], None if self.masks is None else self.masks[rows])


def open_run(run: str, root: Path) -> Opened:
    """Raises ValueError for a run that is not stored or came from outside, DataError where its weights are not here."""
    row = reproduce.find_run(run, root)
    if row["pretext"] == EXTERNAL:
        raise ValueError(
            f"{row['run']} is an encoder from outside: maps read the blocks of the benchmark's own encoders"
        )
    recipe = from_json(row["recipe"])
    folder = results.run_directory(root, row["modality"], row["run"])
    stored = folder / "encoder.safetensors"
    if not stored.exists():
        raise DataError(f"{stored}: no such file; `python -m benchmark reproduce {row['run']}` trains the run again")
    if seals.sha256(stored) != row["weights_sha256"]:
        raise DataError(f"{stored}: not the weights of run {row['run']} (SHA-256 differs); `make verify`")
    module, frozen = registry.load("pretexts", recipe.pretext), encoder.load(recipe.encoder, stored)
    decoder, path = None, folder / "decoder.safetensors"
    if path.exists():
        decoder = module.Model(registry.typed(recipe).settings, frozen, recipe.modality, seed=0).eval()
        weights.load(decoder, path, decoder.decoder_state())
    return Opened(row, recipe, frozen, getattr(module, "QUERY", "patches"), decoder)


def before(one: Opened) -> Opened:
    """The same architecture before training: the weights of the run's twin."""
    fresh = Encoder(one.recipe.encoder, one.recipe.seed)
    fresh.mean.copy_(one.encoder.mean)
    fresh.std.copy_(one.encoder.std)
    return one._replace(encoder=fresh.eval().requires_grad_(False), decoder=None)


def pictures(
    one: Opened, task: Task, data: Path, cache: Path, *, most: int, per_group: bool = False, ids: Sequence[str] = ()
) -> Pictures:
    """The first test images in the order of the module's text, or those named. Raises DataError, and ValueError for an
    id that is not of the task."""
    samples = scan_grouped(task, data, cache)
    if unknown := sorted(set(ids) - {sample.id for sample in samples}):
        raise ValueError(f"{task.name} has no image {unknown[0]!r}; the first of its ids is {samples[0].id!r}")
    side = one.recipe.encoder.pixels
    chosen, masks, groups = [], [], set()
    for sample in _named(samples, ids) if ids else _ordered(task, samples):
        if per_group and sample.group in groups and not ids:
            continue
        if task.mask is not None:
            mask = squares.mask_to_square(task, data, sample, task.mask, side)
            if not mask.any() and not ids:
                continue
            masks.append(mask)
        chosen.append(sample)
        groups.add(sample.group)
        if len(chosen) == most and not ids:
            break
    if not chosen:
        raise DataError(f"{task.modality}/{task.name}: no test image here shows the lesion; get the whole dataset")
    built = store.build(task, data, samples, one.recipe.stored_pixels, cache / "stores")
    row = {name: place for place, name in enumerate(built.ids)}
    pixels = built.pixels[[row[sample.id] for sample in chosen]]
    return Pictures(chosen, pixels, np.stack(masks) if masks else None)


def _named(samples: list[Sample], ids: Sequence[str]) -> list[Sample]:
    by_id = {sample.id: sample for sample in samples}
    return [by_id[one] for one in ids]


def _ordered(task: Task, samples: list[Sample]) -> Iterator[Sample]:
    """Test samples, classes in turn, in an order drawn from their ids."""
    tested = sorted({i for division in splits.assignments(task, samples) for i in division.test})
    keys = draws.uniform(draws.text_keys([samples[i].id for i in tested]), "maps/images", 1)[:, 0]
    by_class: dict[int, list[Sample]] = {}
    for place in np.argsort(keys, kind="stable"):
        by_class.setdefault(samples[tested[place]].label, []).append(samples[tested[place]])
    for place in range(max(map(len, by_class.values()))):
        yield from (by_class[label][place] for label in sorted(by_class) if place < len(by_class[label]))


def looked(one: Opened, stored: np.ndarray) -> maps.Seen:
    """`maps.look` on stored images uint8 (B, S, S, 3), a few at a time, on the CPU."""
    parts = []
    for start in range(0, len(stored), BATCH):
        view = features.evaluation_view(stored[start : start + BATCH], one.recipe.encoder.pixels, torch.device("cpu"))
        parts.append(maps.look(one.encoder, view, one.query))
    return maps.Seen(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def saliency(
    root: Path,
    run: str,
    task: Task,
    data: Path,
    cache: Path,
    samples: list[Sample],
    kind: str = "attention",
    untrained: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (N, S, S, 3), maps (N, h, w) >= 0) of a run, or of its architecture before training, on samples.

    kind: "attention" (mean of heads) or "rollout". Raises as `open_run` and `pictures` do.
    """
    if kind not in ("attention", "rollout"):
        raise ValueError(f"no map {kind!r} over a whole image: attention or rollout")
    one = open_run(run, root)
    found = pictures(one, task, data, cache, most=len(samples), ids=[sample.id for sample in samples])
    seen = getattr(looked(before(one) if untrained else one, found.stored), kind)
    grid = one.recipe.encoder.grid
    return found.stored, seen.reshape(-1, grid, grid)


def scores(one: Opened, task: Task, found: Pictures) -> Iterator[dict[str, object]]:
    """sample, group, kind, control, score and value of every score that can be had; NaN ones are left out."""
    grid = one.recipe.encoder.grid
    name, strength = STABILITY[task.modality]
    altered = corrupt.apply(found.stored, [s.id for s in found.samples], task.modality, name, strength)
    own = {"": one} if one.recipe.budget == 0 else {"": one, "untrained": before(one)}
    seen = {control: (looked(o, found.stored), looked(o, altered)) for control, o in own.items()}
    visible = maps.shown(_sized(found.stored, one.recipe.encoder.pixels), grid)
    tall = maps.artefacts(seen[""][0].lengths).mean(axis=1)
    for i, sample in enumerate(found.samples):
        about = {"sample": sample.id, "group": sample.group}
        inside = None if found.masks is None else covered(found.masks[i : i + 1], grid)[0]
        anchor = maps.anchors(sample.id, visible[i], inside)[0]
        yield {**about, "kind": "tokens", "control": "", "score": "artefact tokens", "value": float(tall[i])}
        drawn = {
            control: [
                {"attention": s.attention[i], "rollout": s.rollout[i], "cosine": maps.cosine(s.tokens[i], anchor)}
                for s in pair
            ]
            for control, pair in seen.items()
        }
        for kind in maps.KINDS:
            for control, (clean, changed) in drawn.items():
                told = {f"stability under {name}": maps.alike(clean[kind], changed[kind])}
                if found.masks is not None:
                    told |= maps.score(kind, clean[kind], found.masks[i], anchor)
                if control:
                    told["likeness to the trained map"] = maps.alike(clean[kind], drawn[""][0][kind])
                for score, value in told.items():
                    score, _, chance = score.partition(", ")
                    if np.isfinite(value) and not (chance and control):
                        yield {**about, "kind": kind, "control": chance or control, "score": score, "value": value}


def _sized(stored: np.ndarray, side: int) -> np.ndarray:
    """Stored images as uint8 (B, side, side, 3)."""
    view = features.evaluation_view(stored, side, torch.device("cpu"))
    return (view * 255).round().byte().permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    values: np.ndarray  # (S, S, 3) an image, or (h, w) a map
    low: float | None = None  # of the colours; None: the map's own
    high: float | None = None
    crosses: tuple[tuple[float, float], ...] = ()  # (x, y) marked with a red X, in shares of the side
    framed: np.ndarray | None = None  # bool (h, w): patches with a red frame
    outline: np.ndarray | None = None  # bool (S, S)


def panels(one: Opened, found: Pictures, place: tuple[float, float] | None = None) -> list[list[Panel]]:
    """A row of panels for each image; `place`: an anchor (x, y) in shares of the side, instead of the drawn ones."""
    spec = one.recipe.encoder
    grid, images = spec.grid, _sized(found.stored, spec.pixels)
    seen, visible = looked(one, found.stored), maps.shown(images, grid)
    colours, explained = maps.principal(seen.tokens, visible)
    tall = maps.artefacts(seen.lengths)
    rebuilt = reconstructed(one, found)
    rows = []
    for i, sample in enumerate(found.samples):
        mask = None if found.masks is None else found.masks[i]
        inside = None if mask is None else covered(mask[None], grid)[0]
        marks = maps.anchors(sample.id, visible[i], inside) if place is None else [maps.patch_at(place, grid)]
        row = [
            Panel(title="image", values=images[i], outline=mask, crosses=tuple(_centre(patch, grid) for patch in marks))
        ]
        for head in range(min(HEADS, seen.heads.shape[1])):
            row.append(Panel(title=f"head {head + 1}", values=_square(seen.heads[i, head]), low=0.0))
        row.append(Panel(title="rollout", values=_square(seen.rollout[i]), low=0.0))
        for number, anchor in enumerate(marks, 1):
            values = _square(maps.cosine(seen.tokens[i], anchor))
            row.append(Panel(title=f"cosine, X {number}", values=values, high=1.0, crosses=(_centre(anchor, grid),)))
        row.append(Panel(title=f"PCA, {explained.sum():.0%}", values=colours[i].reshape(grid, grid, 3)))
        title = f"length, {tall[i].sum()} artefacts"
        row.append(Panel(title=title, values=_square(seen.lengths[i]), low=0.0, framed=_square(tall[i])))
        row += [Panel(title=title, values=image[i]) for title, image in rebuilt.items()]
        rows.append(row)
    return rows


def _centre(patch: int, grid: int) -> tuple[float, float]:
    return (patch % grid + 0.5) / grid, (patch // grid + 0.5) / grid


def _square(values: np.ndarray) -> np.ndarray:
    side = int(len(values) ** 0.5)
    return values.reshape(side, side)


def reconstructed(one: Opened, found: Pictures) -> dict[str, np.ndarray]:
    """{"seen": ..., "predicted": ...}, (B, side, side, 3) each; empty for a pretext that predicts no pixels."""
    if one.decoder is None:
        return {}
    view = features.evaluation_view(found.stored, one.recipe.encoder.pixels, torch.device("cpu"))
    keys = draws.text_keys([sample.id for sample in found.samples])
    made = one.decoder.reconstruct(view, draws.Draws(keys, keys[:1], 0, len(keys)))
    return dict(zip(("seen", "predicted"), (x.permute(0, 2, 3, 1).numpy() for x in made), strict=True))


def draw(rows: Sequence[Sequence[Panel]], labels: Sequence[str], title: str) -> Figure:
    """Rows of panels, each with a label; a map's title ends with its lowest and highest value."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(INCH * columns + 0.6, 1.22 * INCH * len(rows) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, label, line in zip(rows, labels, axes, strict=True):
        line[0].set_ylabel(label, fontsize=6)
        for panel, one in zip(row, line, strict=False):
            _paint(one, panel)
        for one in line[len(row) :]:
            one.axis("off")
    return figure


def _paint(axes: Axes, panel: Panel) -> None:
    values = panel.values
    bounds = f"\n{values.min():.2g} to {values.max():.2g}" if values.ndim == 2 else ""
    whole = (0, 1, 1, 0)
    axes.imshow(values, cmap=COLOURS, vmin=panel.low, vmax=panel.high, extent=whole, interpolation="nearest")
    if panel.outline is not None and panel.outline.any():
        centres = (np.arange(len(panel.outline)) + 0.5) / len(panel.outline)
        axes.contour(centres, centres, panel.outline, levels=[0.5], colors=EDGE, linewidths=0.9)
    for x, y in panel.crosses:
        axes.plot(x, y, "x", color="red", markersize=5, markeredgewidth=1.4)
    for y, x in np.argwhere(panel.framed) if panel.framed is not None else ():
        step = 1 / len(panel.framed)
        axes.add_patch(Rectangle((x * step, y * step), step, step, fill=False, edgecolor="red"))
    axes.set_title(panel.title + bounds, fontsize=5.5, pad=1.5)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])


def save(figure: Figure, path: Path) -> None:
    """path.png and path.svg, the same bytes each time."""
    with matplotlib.rc_context({"svg.hashsalt": "pretext-bench", "svg.fonttype": "none"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(path.with_suffix(".png"), dpi=DOTS, metadata={"Software": None})


def directory(root: Path, one: Opened, task: Task, data: str) -> Path:
    trained = one.row["weights_sha256"]
    name = digest("maps", maps.VERSION, one.row["run"], trained, task.modality, task.name, data)[:12]
    return root / task.modality / "maps" / name


def store_maps(one: Opened, task: Task, data: Path, cache: Path, root: Path) -> Path:
    """The folder with the sheet and the scores of a run on a task, made where it is not there yet."""
    names = identity(task, scan_grouped(task, data, cache))
    folder = directory(root, one, task, names)
    if folder.exists():
        return folder
    about = {
        "run": one.row["run"],
        "weights_sha256": one.row["weights_sha256"],
        "modality": task.modality,
        "task": task.name,
        "task_version": task.version,
        "data": names,
        "version": maps.VERSION,
        "public": task.synthetic or task.access.redistributable,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found = pictures(one, task, data, cache, most=SCORED)
    rows = [about | row for row in scores(one, task, found)]
    with tempfile.TemporaryDirectory() as made:
        sheet = Path(made) / "sheet"
        save(sheet_of(one, task, pictures(one, task, data, cache, most=IMAGES, per_group=True)), sheet)
        kept = {path.name: path for path in (sheet.with_suffix(".png"), sheet.with_suffix(".svg"))}
        results.write(folder, {"maps": schema.table("maps", rows)}, files=kept)
    return folder


def sheet_of(one: Opened, task: Task, found: Pictures, place: tuple[float, float] | None = None) -> Figure:
    """A row for each image."""
    title = f"{task.title}: {one.name} ({one.row['run']}); {asked(one)}{_credit(task)}"
    return draw(panels(one, found, place), [_label(task, sample) for sample in found.samples], title)


def beside(runs: Sequence[Opened], task: Task, found: Pictures, place: tuple[float, float] | None) -> list[Figure]:
    """A figure for each image, with a row for each run."""
    rows = [panels(one, found, place) for one in runs]
    names = [f"{one.name}\nquery: {one.query}" for one in runs]
    return [
        draw([row[i] for row in rows], names, f"{task.title}: {_label(task, sample).replace(chr(10), ', ')}")
        for i, sample in enumerate(found.samples)
    ]


def asked(one: Opened) -> str:
    return "query: the cls token" if one.query == "cls" else "query: mean over patches, as no cls token is trained"


def _credit(task: Task) -> str:
    """Whose images a sheet shows, as their licence asks; nothing for simulated ones."""
    if task.synthetic:
        return ""
    return f"\n{textwrap.fill(f'images: {task.access.citation}; {task.access.licence}', CREDIT)}"


def _label(task: Task, sample: Sample) -> str:
    return f"{sample.id}\n{task.classes[sample.label]}" if sample.label >= 0 else sample.id


def told(rows: pd.DataFrame) -> str:
    """Mean scores of the table `maps` of one run and task, the controls beside them."""
    means = rows.groupby(["kind", "score", "control"])["value"].mean().unstack("control")
    means = means.reindex(columns=["", "untrained", "chance"]).rename(columns={"": "run"})
    return means.to_string(float_format="{:.3f}".format, na_rep="–")


def show(
    runs: Sequence[Opened],
    task: Task,
    data: Path,
    cache: Path,
    root: Path,
    out: Path,
    *,
    ids: Sequence[str] = (),
    place: tuple[float, float] | None = None,
) -> Iterator[str]:
    """Write what was asked for, and say each thing that was made; several runs are shown side by side too."""
    folder = out / task.name
    folder.mkdir(parents=True, exist_ok=True)
    for one in runs:
        target = folder / one.row["run"]
        if ids or place:
            found = pictures(one, task, data, cache, most=IMAGES, per_group=True, ids=ids)
            save(sheet_of(one, task, found, place), target)
        else:
            stored = store_maps(one, task, data, cache, root)
            for kind in (".png", ".svg"):
                shutil.copyfile((stored / "sheet").with_suffix(kind), target.with_suffix(kind))
            rows = results.read_file(stored / "maps.parquet").to_pandas()
            yield f"{one.name} ({one.row['run']}), {rows['sample'].nunique()} images of {task.name}:\n{told(rows)}"
        if one.decoder is None and one.rebuilds:
            yield f"{one.row['run']}: no decoder is stored with it, so nothing is reconstructed; train it again"
        yield f"{target}.png and .svg ({asked(one)})"
    if len(runs) > 1:
        found = pictures(runs[0], task, data, cache, most=IMAGES, per_group=True, ids=ids)
        for number, figure in enumerate(beside(runs, task, found, place), 1):
            save(figure, folder / f"side-by-side-{number}")
        yield f"{folder}/side-by-side-1 to -{number}, .png and .svg: the runs on one image each"
