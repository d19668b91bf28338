"""`python -m benchmark maps`: the maps of stored runs on test images of a task, as a sheet, and their scores.

A sheet that anchors or images were chosen for is written out and not stored.

    <results>/<modality>/maps/<id>/     maps.parquet sheet.png sheet.svg
"""

import io
import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from benchmark.maps import patch_maps
from benchmark.maps.run_maps import OpenRun, Pictures, choose_pictures, compute_scores, look, reconstruct, resize
from benchmark.probes.dense import covered
from benchmark.storage import results, schema
from tasks.base import Sample, Task, digest, identity
from tasks.duplicates import scan_grouped

IMAGES, SCORED = 4, 200  # of a sheet; of the scores, at most
HEADS = 6  # that a sheet shows, the first ones
INCH = 1.0  # of a panel
CREDIT = 200  # characters of a line that says whose images are shown
DOTS = 96  # per inch, of the PNG
COLOURS, EDGE = "viridis", "#ff9d3c"


@dataclass(frozen=True, kw_only=True)
class Panel:
    title: str
    values: np.ndarray  # (S, S, 3) an image, or (h, w) a map
    low: float | None = None  # of the colours; None: the map's own
    high: float | None = None
    crosses: tuple[tuple[float, float], ...] = ()  # (x, y) marked with a red X, in shares of the side
    framed: np.ndarray | None = None  # bool (h, w): patches with a red frame
    outline: np.ndarray | None = None  # bool (S, S)


def make_panels(run: OpenRun, found: Pictures, place: tuple[float, float] | None = None) -> list[list[Panel]]:
    """A row of panels for each image; `place`: an anchor (x, y) in shares of the side, instead of the drawn ones."""
    spec = run.recipe.encoder
    grid, images = spec.grid, resize(found.stored, spec.pixels)
    seen, visible = look(run, found.stored), patch_maps.find_visible(images, grid)
    colours, explained = patch_maps.principal_colours(seen.tokens, visible)
    tall = patch_maps.find_artefacts(seen.lengths)
    rebuilt = reconstruct(run, found)

    def centre(patch: int) -> tuple[float, float]:
        return (patch % grid + 0.5) / grid, (patch // grid + 0.5) / grid

    def square(values: np.ndarray) -> np.ndarray:
        return values.reshape(grid, grid)

    rows = []
    for i, sample in enumerate(found.samples):
        mask = None if found.masks is None else found.masks[i]
        if place is None:
            inside = None if mask is None else covered(mask[None], grid)[0]
            anchors = patch_maps.draw_anchors(sample.id, visible[i], inside)
        else:
            anchors = [patch_maps.find_patch(place, grid)]
        row = [Panel(title="image", values=images[i], outline=mask, crosses=tuple(map(centre, anchors)))]
        for head in range(min(HEADS, seen.heads.shape[1])):
            row.append(Panel(title=f"head {head + 1}", values=square(seen.heads[i, head]), low=0.0))
        row.append(Panel(title="rollout", values=square(seen.rollout[i]), low=0.0))
        for number, anchor in enumerate(anchors, 1):
            values = square(patch_maps.cosine(seen.tokens[i], anchor))
            row.append(Panel(title=f"cosine, X {number}", values=values, high=1.0, crosses=(centre(anchor),)))
        row.append(Panel(title=f"PCA, {explained.sum():.0%}", values=colours[i].reshape(grid, grid, 3)))
        title = f"length, {tall[i].sum()} artefacts"
        row.append(Panel(title=title, values=square(seen.lengths[i]), low=0.0, framed=square(tall[i])))
        row += [Panel(title=title, values=image[i]) for title, image in rebuilt.items()]
        rows.append(row)
    return rows


def draw(rows: Sequence[Sequence[Panel]], labels: Sequence[str], title: str) -> Figure:
    """Rows of panels, each with a label; a map's title ends with its lowest and highest value."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(INCH * columns + 0.6, 1.22 * INCH * len(rows) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, label, line in zip(rows, labels, grid, strict=True):
        line[0].set_ylabel(label, fontsize=6)
        for panel, axes in zip(row, line, strict=False):
            _paint(axes, panel)
        for axes in line[len(row) :]:
            axes.axis("off")
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
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=DOTS)
    colours = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a third of the bytes
    colours.save(path.with_suffix(".png"), optimize=True)


def directory(root: Path, run: OpenRun, task: Task, data: str) -> Path:
    trained = run.row["weights_sha256"]
    name = digest("maps", patch_maps.VERSION, run.row["run"], trained, task.modality, task.name, data)[:12]
    return root / task.modality / "maps" / name


def store_maps(run: OpenRun, task: Task, data: Path, cache: Path, root: Path) -> Path:
    """The folder with the sheet and the scores of a run on a task, made where it is not there yet."""
    names = identity(task, scan_grouped(task, data, cache))
    folder = directory(root, run, task, names)
    if folder.exists():
        return folder
    about = {
        "run": run.row["run"],
        "weights_sha256": run.row["weights_sha256"],
        "modality": task.modality,
        "task": task.name,
        "task_version": task.version,
        "data": names,
        "version": patch_maps.VERSION,
        "public": task.synthetic or task.access.redistributable,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found = choose_pictures(run, task, data, cache, most=SCORED)
    rows = [about | row for row in compute_scores(run, task, found)]
    with tempfile.TemporaryDirectory() as made:
        sheet = Path(made) / "sheet"
        save(draw_sheet(run, task, choose_pictures(run, task, data, cache, most=IMAGES, per_group=True)), sheet)
        kept = {path.name: path for path in (sheet.with_suffix(".png"), sheet.with_suffix(".svg"))}
        results.write(folder, {"maps": schema.table("maps", rows)}, files=kept)
    return folder


def draw_sheet(run: OpenRun, task: Task, found: Pictures, place: tuple[float, float] | None = None) -> Figure:
    """A row for each image; whose real images they are is said, as their licence asks."""
    credit = f"images: {task.access.citation}; {task.access.licence}"
    credit = "" if task.synthetic else f"\n{textwrap.fill(credit, CREDIT)}"
    title = f"{task.title}: {run.name} ({run.row['run']}); {describe_query(run)}{credit}"
    return draw(make_panels(run, found, place), [_label(task, sample) for sample in found.samples], title)


def draw_side_by_side(
    runs: Sequence[OpenRun], task: Task, found: Pictures, place: tuple[float, float] | None
) -> list[Figure]:
    """A figure for each image, with a row for each run."""
    rows = [make_panels(run, found, place) for run in runs]
    names = [f"{run.name}\nquery: {run.query}" for run in runs]
    return [
        draw([row[i] for row in rows], names, f"{task.title}: {_label(task, sample).replace(chr(10), ', ')}")
        for i, sample in enumerate(found.samples)
    ]


def describe_query(run: OpenRun) -> str:
    return "query: the cls token" if run.query == "cls" else "query: mean over patches, as no cls token is trained"


def _label(task: Task, sample: Sample) -> str:
    return f"{sample.id}\n{task.classes[sample.label]}" if sample.label >= 0 else sample.id


def format_scores(rows: pd.DataFrame) -> str:
    """Mean scores of the table `maps` of one run and task, the controls beside them."""
    means = rows.groupby(["kind", "score", "control"])["value"].mean().unstack("control")
    means = means.reindex(columns=["", "untrained", "chance"]).rename(columns={"": "run"})
    return means.to_string(float_format="{:.3f}".format, na_rep="–")


def show(
    runs: Sequence[OpenRun],
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
    for run in runs:
        target = folder / run.row["run"]
        if ids or place:
            found = choose_pictures(run, task, data, cache, most=IMAGES, per_group=True, ids=ids)
            save(draw_sheet(run, task, found, place), target)
        else:
            stored = store_maps(run, task, data, cache, root)
            for kind in (".png", ".svg"):
                shutil.copyfile((stored / "sheet").with_suffix(kind), target.with_suffix(kind))
            rows = results.read_file(stored / "maps.parquet").to_pandas()
            scores = format_scores(rows)
            yield f"{run.name} ({run.row['run']}), {rows['sample'].nunique()} images of {task.name}:\n{scores}"
        if run.decoder is None and run.rebuilds:
            yield f"{run.row['run']}: no decoder is stored with it, so nothing is reconstructed; train it again"
        yield f"{target}.png and .svg ({describe_query(run)})"
    if len(runs) > 1:
        found = choose_pictures(runs[0], task, data, cache, most=IMAGES, per_group=True, ids=ids)
        for number, figure in enumerate(draw_side_by_side(runs, task, found, place), 1):
            save(figure, folder / f"side-by-side-{number}")
        yield f"{folder}/side-by-side-1 to -{number}, .png and .svg: the runs on one image each"
