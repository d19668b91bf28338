"""What stands beside the scores of a board: baselines, locality, costs, curves, ratings of maps, provenance."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd

from benchmark.recipe import ENGINE
from benchmark.storage import results
from leaderboards.boards import store
from leaderboards.boards.board import HEALTH, LOSS, Baseline, Column, Cost, Curve, Locality, Rating, Run
from leaderboards.boards.selection import Method
from leaderboards.stats.intervals import estimate, group_mean
from leaderboards.stats.resampling import draw_groups, resample

BASELINES = {"majority": "Majority class", "histogram": "Colour histogram", "thumbnail": "8 × 8 thumbnail"}
QUANTITIES = {"loss": LOSS, "rankme": HEALTH}  # what is drawn, by the last word of a curve's name
POINTS = 120  # per drawn curve
RELEVANCE = "relevance"  # the question whose answers are shown, 1 to 5


def read_baselines(columns: tuple[Column, ...], plain: pd.DataFrame) -> tuple[Baseline, ...]:
    plain = plain[plain["headline"] & plain["version"].eq(plain["version"].max())]
    rows = {tuple(row[name] for name in ("baseline", "task", "data")): row for row in plain.to_dict("records")}
    found = []
    for name, title in BASELINES.items():
        scores = []
        for column in columns:
            row = rows.get((name, column.task, column.data))
            if row is None:
                scores.append(None)
                continue
            seen = store.predictions(row["directory"], row["cell"], row["protocol"])
            score = estimate(resample((0,), [seen], column.metric, draw_groups([seen]), column.independent))
            scores.append(score if math.isfinite(score.value) else None)
        if any(scores):
            found.append(Baseline(name=title, scores=tuple(scores)))
    return tuple(found)


def read_localities(columns: tuple[Column, ...], measured: pd.DataFrame) -> tuple[Locality | None, ...]:
    """Measured locality of each task's images, by the newest measurement."""
    rows = measured.sort_values(["version", "created"], kind="stable").itertuples()
    found = {
        (row.task, row.data): Locality(**{name: _known(getattr(row, name)) for name in ("value", "low", "high")})
        for row in rows
    }
    return tuple(found.get((column.task, column.data)) for column in columns)


def _known(x: float) -> float | None:
    return None if pd.isna(x) else float(x)


def describe_engine(runs: pd.DataFrame) -> str:
    """That the runs are of an earlier engine than this code's, in words; "" where they are not."""
    engine = runs["engine"].max()
    return f"Measured by engine {engine}; this code is engine {ENGINE}." if engine < ENGINE else ""


def cost_of(method: Method, runs: pd.DataFrame) -> Cost:
    rows = runs[runs["variant"] == method.variant]
    return Cost(
        name=method.name,
        runs=tuple(rows["run"]),
        seeds=tuple(sorted(method.runs)),
        budget_flops=float(rows["budget_flops"].mean()),
        realised_flops=float(rows["realised_flops"].mean()),
        steps=float(rows["steps"].mean()),
        images_seen=float(rows["images_seen"].mean()),
        seconds=float(rows["seconds"].mean()),
        devices=tuple(sorted(set(rows["device"]))),
        status=", ".join(f"{count} {status}" for status, count in sorted(Counter(rows["status"]).items())),
        memory_bytes=_known(rows["peak_memory_bytes"].mean()),
    )


def runs_of(method: Method, runs: pd.DataFrame) -> list[Run]:
    return [
        Run(
            run=row.run,
            twin=row.twin,
            name=f"Untrained twin of {method.name}" if method.twin else method.name,
            variant=method.variant,
            seed=int(row.seed),
            weights=row.weights_sha256 or "",
            directory=row.directory,
            created=row.created,
        )
        for row in runs[runs["variant"] == method.variant].itertuples()
    ]


def read_curves(method: Method, runs: pd.DataFrame) -> list[Curve]:
    """Loss and a health value of every seed, thinned to what can be drawn."""
    found = []
    for _, run in runs[runs["variant"] == method.variant].sort_values("seed").iterrows():
        path = Path(run["directory"]) / "curves.parquet"
        logged = results.read_file(path).to_pandas() if path.exists() else pd.DataFrame(columns=["run", "name"])
        logged = logged[logged["run"] == run["run"]]
        for word, quantity in QUANTITIES.items():
            names = [name for name in logged["name"].unique() if re.split(r"[/.]", name)[-1] == word]
            rows = logged[logged["name"].isin(names[:1])].dropna(subset="value").sort_values("step")
            if len(rows) > 1:
                rows = rows.iloc[:: max(1, len(rows) // POINTS)]
                points = tuple(zip(rows["progress"].tolist(), rows["value"].tolist(), strict=True))
                found.append(Curve(name=method.name, seed=int(run["seed"]), quantity=quantity, points=points))
    return found


def describe_provenance(runs: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from, in words."""
    commits = sorted({f"{row.commit}{' with local changes' if row.dirty else ''}" for row in runs.itertuples()})
    packages = [json.loads(text) for text in runs["versions"].unique()]
    versions = sorted({f"{name} {version}" for found in packages for name, version in found.items()})
    machines = sorted({f"{row.device}, {row.threads} threads, {row.processes} processes" for row in runs.itertuples()})
    return (
        ("code", ", ".join(commits)),
        ("engine", ", ".join(sorted({str(engine) for engine in runs["engine"]}))),
        ("pretexts", ", ".join(sorted({f"{row.pretext} {row.pretext_version}" for row in runs.itertuples()}))),
        ("machines", "; ".join(machines)),
        ("packages", ", ".join(versions)),
        ("written", f"{runs['created'].min()} to {runs['created'].max()}"),
        ("runs", ", ".join(sorted(runs["run"]))),
    )


def read_ratings(methods: Sequence[Method], columns: Sequence[Column], rows: pd.DataFrame) -> tuple[Rating, ...]:
    """What experts said of the maps of these methods (`python -m benchmark reader analyse`), a rating for each pack.
    rows: of the table `ratings`; columns: the tasks of the board, which know whose patients their groups are."""
    families = {column.task: column.family for column in columns}
    main = rows[(rows["question"] == RELEVANCE) & rows["repeats"].eq("")]
    found = []
    for pack, whole in main.groupby("pack", sort=True):
        answered = whole[whole["answer"].notna()]
        for method in methods:
            own = answered[answered["run"].isin(method.runs.values())]
            if own.empty:
                continue
            family = own["task"].map(lambda task: families.get(task, task))
            mean = group_mean(own["answer"].to_numpy(float), (family + "\0" + own["group"]).to_numpy(str))
            found.append(
                Rating(
                    name=method.name,
                    twin=method.twin,
                    pack=str(pack),
                    task=str(own["task"].iloc[0]),
                    value=mean.value,
                    low=mean.low,
                    high=mean.high,
                    readers=own["reader"].nunique(),
                    cases=own["case"].nunique(),
                    groups=mean.groups,
                    alpha=_alpha(answered),
                )
            )
    return tuple(found)


def _alpha(rows: pd.DataFrame) -> float | None:
    """Krippendorff's alpha of all arms of a pack together; None for one reader, or one answer throughout."""
    table = rows.pivot_table(index=["case", "arm"], columns="reader", values="answer").to_numpy().T
    if len(table) < 2 or len(np.unique(table[~np.isnan(table)])) < 2 or (np.sum(~np.isnan(table), axis=0) < 2).all():
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))
