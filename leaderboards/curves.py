"""Learning curves of a track's stored runs: `python -m leaderboards.curves FILE.svg --track laptop --modality histo`.

A row for each pretext, a thin line for each seed: the main loss over what predicts nothing, RankMe of the features,
and the nearest-neighbour probe on validation groups (mean over seeds, a colour for each task).
"""

from pathlib import Path
from typing import Annotated

import matplotlib
import pandas as pd
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.storage import results
from tasks import host

MAIN = {"dinov3": "dino"}  # the loss term that has a trivial level; others: their whole loss
PROBE = "online kNN "
COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito: told apart by the colour-blind


def curves(root: Path, modality: str, track: str) -> pd.DataFrame:
    """Rows of `curves` with the pretext and seed of their run. Raises ValueError where none is stored."""
    runs = results.read(root, "runs")
    runs = runs[(runs.modality == modality) & (runs.track == track) & (runs.budget_flops > 0)]
    if runs.empty:
        raise ValueError(f"{root}: no {modality} run of track {track!r}; run `make bench TRACK={track}` first")
    return results.read(root, "curves").merge(runs[["run", "pretext", "seed"]], on="run")


def draw(rows: pd.DataFrame, title: str) -> Figure:
    pretexts = sorted(rows.pretext.unique())
    figure = Figure(figsize=(10, 2.4 * len(pretexts)), layout="constrained")
    grid = figure.subplots(len(pretexts), 3, squeeze=False, sharex=True)
    for line, pretext in zip(grid, pretexts, strict=True):
        own = rows[rows.pretext == pretext]
        main = MAIN.get(pretext, "loss")
        below = own[own.name == f"{main} below trivial"].assign(value=lambda x: 1 - x.value)
        thin(line[0], below, "black")
        line[0].axhline(1.0, color="grey", linestyle=":")
        line[0].set_ylabel(f"{pretext}\n{main} / trivial {main}")
        thin(line[1], own[own.name == "rankme"], "black")
        line[1].set_ylabel("RankMe")
        for task, colour in zip(sorted(n for n in own.name.unique() if n.startswith(PROBE)), COLOURS, strict=False):
            seen = own[own.name == task]
            thin(line[2], seen, colour, alpha=0.25)
            mean = seen.groupby("progress").value.mean()
            line[2].plot(mean.index, mean, color=colour, label=task.removeprefix(PROBE))
        line[2].axhline(0.5, color="grey", linestyle=":")
        line[2].set_ylabel("kNN, balanced accuracy")
    grid[0][2].legend(fontsize="x-small")
    for axes in grid[-1]:
        axes.set_xlabel("share of training")
    figure.suptitle(title)
    return figure


def thin(axes: Axes, rows: pd.DataFrame, colour: str, alpha: float = 0.6) -> None:
    """A line for each seed."""
    for _, one in rows.groupby("seed"):
        axes.plot(one.progress, one.value, color=colour, alpha=alpha, linewidth=0.8)


def main(
    file: Annotated[Path, typer.Argument(parser=host.path, help="Where the SVG is written.")],
    modality: str = "ultrasound",
    track: str = "laptop",
    root: Annotated[Path, typer.Option("--results", parser=host.path)] = Path("results/local"),
) -> None:
    """Draw the learning curves of every stored run of a track."""
    rows = curves(root, modality, track)
    matplotlib.rcParams["svg.hashsalt"] = "pretext-bench"
    figure = draw(rows, f"{modality}, track {track}, {rows.seed.nunique()} seeds, simulated images unless named local")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    typer.echo(f"wrote {file}")


if __name__ == "__main__":
    host.use_utf8()
    try:
        typer.run(main)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
