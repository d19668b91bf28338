"""A board of any size, made up: for what a page does with a thousand rows, not for what a number is."""

import numpy as np

from leaderboards.boards.board import Board, Column, Comparison, Cost, Entry, Row, Section
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.verdicts import GAIN


def board(rows: int, tasks: int, seed: int = 0) -> Board:
    """Rows of pretexts with one seed each, every twentieth task of a row missing, and one twin."""
    rng = np.random.default_rng(seed)
    columns = tuple(column(place) for place in range(tasks))
    made = sorted((row(place, columns, rng) for place in range(rows - 1)), key=lambda one: -one.mean.gain.value)
    floor = row(rows, columns, rng, twin=True)
    return Board(
        slug="wide",
        title="Ultrasound: phantom corpus, wide track",
        modality="ultrasound",
        corpus="phantom",
        corpus_digest="c0ffee123456",
        corpus_images=640,
        track="wide",
        synthetic=True,
        budgets=(1e13,),
        seeds=(0,),
        encoder="ViT of 4 blocks",
        pixels=(64,),
        columns=columns,
        pooled=tuple(one.title for one in columns),
        ranked=True,
        sections=(Section(probe="linear", readout="patches", by_group=False, rows=(*made, floor)),),
        comparison=Comparison(pretexts=(), twins=(), detectable=(), classical=None),
        claims=(),
        baselines=(),
        costs=tuple(cost(one, rng) for one in made),
        curves=(),
        missing=(),
        footnotes=(),
        provenance=(("code", "0123abc"),),
        updated="2026-11-01T00:00:00+00:00",
    )


def column(place: int) -> Column:
    return Column(
        task=f"task_{place}",
        data=f"{place:012x}",
        title=f"Task number {place}",
        metric="auroc",
        classes=("without", "with"),
        groups=200,
        group_kind="simulated patient",
        family="phantom",
        independent=True,
        samples=400,
        protocol="cut",
        leakage="pass",
        images=2000,
        partial="",
        synthetic=True,
    )


def row(place: int, columns, rng, twin: bool = False) -> Row:
    run = f"{place:012x}"
    return Row(
        name=f"Untrained twin {place}" if twin else f"Pretext {place} of the wide track",
        twin=twin,
        variant=run,
        seeds=(0,),
        letters="" if twin else "A B",
        ranks=None if twin else (1, 900),
        mean=Entry(note="the floor") if twin else entry(rng, scored=False),
        entries=tuple(entry(rng, twin=twin) if rng.random() > 0.05 else Entry(missing="not run yet") for _ in columns),
        note="",
        runs=(run,),
    )


def entry(rng, scored: bool = True, twin: bool = False) -> Entry:
    score = estimate(rng.normal(0.7, 0.05), 0.04) if scored else None
    if twin:
        return Entry(score=score)
    gained = estimate(rng.normal(0.02, 0.03), 0.03)
    shown = 1 if gained.low > 0 else -1 if gained.high < 0 else 0
    return Entry(score=score, gain=gained, p=0.01 if shown else 0.5, shown=shown, verdict=GAIN.of(shown), family=1)


def estimate(value: float, half: float) -> Estimate:
    return Estimate(
        value=float(value),
        low=float(value - half),
        high=float(value + half),
        error=half / 2,
        freedom=100.0,
        of_groups=1.0,
        draws_undefined=0,
        draws=500,
        groups=200,
        headroom=30.0,
        seeds=1,
    )


def cost(one: Row, rng) -> Cost:
    return Cost(
        name=one.name,
        runs=one.runs,
        seeds=(0,),
        budget_flops=1e13,
        realised_flops=float(rng.uniform(9e12, 1e13)),
        steps=400.0,
        images_seen=12800.0,
        seconds=float(rng.uniform(60, 6000)),
        devices=("cpu",),
        status="1 finished",
        memory_bytes=float(rng.uniform(1e8, 1e10)),
    )
