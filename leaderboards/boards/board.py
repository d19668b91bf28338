"""What a page says, as one frozen value. HTML, Markdown and the terminal all get it, so they cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmark.metrics import chance
from leaderboards.stats.families import Difference
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.ranking import Classical
from leaderboards.stats.resampling import Resampled

SYNTHETIC = "SYNTHETIC: simulated phantoms, not clinical evidence"
LOSS, HEALTH = "training loss", "RankMe of the features"  # quantities of curves


@dataclass(frozen=True, kw_only=True)
class Column:
    """A task as it was answered here: another set of its images is another column."""

    task: str
    data: str  # identity of the samples
    title: str
    metric: str
    classes: tuple[str, ...]
    groups: int  # in the test set
    group_kind: str
    family: str  # dataset family: group names mean something only inside it
    independent: bool  # the groups are patients or slides
    samples: int
    protocol: str
    leakage: str
    images: int
    partial: str  # "partial: 422 of 2,081 images", or ""
    synthetic: bool
    pixels: str = ""  # "reduced pixels: short side 144, released 286", or that nothing is known to be reduced, or ""
    version: int = 1  # of the task
    taught: bool = True  # its ceiling is shown above the twin, or none is stored

    @property
    def chance(self) -> float | None:
        """The metric's expected value of a guess, where it is constant."""
        return chance(self.metric, len(self.classes))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row on one task, or over the tasks: its gain as `Difference` has it."""

    score: Estimate | None = None  # the metric itself, its interval of it alone
    gain: Estimate | None = None  # over the twin; None for a twin
    p: float | None = None  # adjusted for the family of the gain; None: no verdict, and the interval is of it alone
    shown: int | None = None  # 1: above the twin, -1: below, 0: not shown; None: no verdict
    verdict: str = ""
    family: int = 0  # gains that hold together with this one, itself included
    share: Estimate | None = None  # of the way from twin to ceiling; None where the ceiling is not shown above the twin
    note: str = ""  # "3 of 5 seeds", "twin not run yet"
    missing: str = ""  # why there is no score


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    twin: bool
    variant: str  # hash of the recipe without its seed
    seeds: tuple[int, ...]
    letters: str  # tie group of a ranked row, or ""
    ranks: tuple[int, int] | None  # lowest and highest place among the ranked rows
    mean: Entry  # chance-corrected mean gain over `Board.pooled`; a reason where there is none
    entries: tuple[Entry, ...]  # one per column
    note: str  # "1 of 5 seeds diverged"
    runs: tuple[str, ...] = ()  # ids, one per seed


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The first of two rows minus the second, with the linear probe on the mean of patch tokens."""

    first: str
    second: str
    variants: tuple[str, str]
    mean: Difference | None  # chance-corrected, over `Board.pooled`; None where a task or a common seed is missing
    entries: tuple[Difference | None, ...]  # one per column


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """A contrast over the tasks, restricted to the seeds whose two runs are each shown above their twin."""

    first: str
    second: str
    seeds: tuple[int, ...]
    of: int  # seeds that both have
    estimate: Estimate | None  # None without such a seed


@dataclass(frozen=True, kw_only=True)
class Comparison:
    pretexts: tuple[Contrast, ...]  # pretext minus pretext
    twins: tuple[Contrast, ...]  # pretext minus twin
    detectable: tuple[float | None, ...]  # per column: smallest difference of two pretexts that their intervals leave
    # zero out of in 80 % of repetitions
    classical: Classical | None
    sensitivity: tuple[Sensitivity, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim of the study, on the phantoms or on the real tasks of a board."""

    name: str
    says: str
    about: str  # "phantoms" or "real data"
    tasks: tuple[str, ...]  # titles
    pairs: tuple[str, ...]  # "DINOv3 − I-JEPA"
    variants: tuple[tuple[str, str], ...]  # of the pairs
    apart: tuple[str, ...]  # rows of other recipes of these pretexts, which the claim is not about
    claimed: bool  # the study says which way; else it is an estimate beside its claims
    slope: bool  # the estimates are slopes over locality, per unit of it
    localities: tuple[float, ...]  # measured, of the tasks that a slope is fitted to; () for a difference
    estimates: tuple[Estimate, ...]  # one per pair, chance-corrected, each with an interval of its own; none where
    # untestable
    subject: str  # "this recipe at this budget", "these checkpoints", ...
    verdict: str
    why: str  # untestable
    asks: str = ""  # `says` without the budget: the same on every rung
    within: str = ""  # of a slope: the family of tasks that it is fitted to
    per: str = ""  # of a slope: of what it is, as `contrasts.PER` names it
    probes: tuple[tuple[str, tuple[Estimate, ...]], ...] = ()  # what other probes find, pair by pair: no verdict


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What needs no encoder, with the linear probe, in the headline metric of each task."""

    name: str
    scores: tuple[Estimate | None, ...]  # one per column; None where it was not measured


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The encoder of a board at its budget, trained with the labels of one task; read as a baseline is."""

    labels: int  # distinct labelled training images, over all tasks that were trained together
    score: Estimate
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One probe, readout and unit of scoring: the same columns, the same rows."""

    probe: str
    readout: str
    by_group: bool  # scores averaged per group, instead of one per image
    rows: tuple[Row, ...]
    metric: str = ""  # of all its columns, where it is not the columns' own


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row's pretraining took: means over its seeds."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    budget_flops: float
    realised_flops: float
    steps: float
    images_seen: float
    seconds: float
    devices: tuple[str, ...]
    status: str
    memory_bytes: float | None = None  # at the peak; None where no run measured it


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A logged quantity of one run, thinned for drawing."""

    name: str  # of the row
    seed: int
    quantity: str  # LOSS or HEALTH
    points: tuple[tuple[float, float], ...]  # (progress, value)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pretraining, or a twin, behind a row, and where it is stored."""

    run: str  # id
    twin: str  # id of its twin; its own where it is one
    name: str  # of the row
    variant: str
    seed: int
    weights: str  # SHA-256
    directory: str
    created: str  # UTC, ISO 8601


@dataclass(frozen=True, kw_only=True)
class Locality:
    """How local the signal of a task was measured to be: 1 where a patch says as much as the whole image."""

    value: float | None  # None: omitted, as even the whole image says too little
    low: float | None  # 95 % interval over groups
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """The metric of a row on one task as one thing is turned: labels, or how strongly test images are altered."""

    name: str  # of the row
    task: str  # title of the column
    metric: str
    what: str  # "share of the labelled groups", "labelled images of each class", or the name of an alteration
    kind: Literal["labels", "nuisance", "scale"]
    points: tuple[tuple[float, Estimate], ...]
    drops: tuple[tuple[float, Estimate], ...] = ()  # of an alteration: clean minus altered, on the same samples
    summary: bool = False  # as it was published, without predictions


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """How well a linear probe tells from a row's features what was done to the test images of a task: AUROC."""

    name: str  # of the row
    variant: str
    column: Column
    whole: Estimate  # mean over the classes, each against the others
    nuisances: tuple[tuple[str, Estimate], ...]  # "clean" first


@dataclass(frozen=True, kw_only=True)
class Rating:
    """How relevant experts found what the maps of a row highlight, 1 to 5."""

    name: str  # of the row
    twin: bool
    pack: str
    task: str
    value: float
    low: float | None  # 95 % interval over groups; None under 20
    high: float | None
    readers: int
    cases: int
    groups: int
    alpha: float | None  # Krippendorff's, of the whole pack; None for one reader


@dataclass(frozen=True, kw_only=True)
class Board:
    """One modality, one corpus, one track."""

    slug: str  # file name without its ending
    title: str
    modality: str
    corpus: str
    corpus_digest: str
    corpus_images: int
    track: str
    synthetic: bool
    budgets: tuple[float, ...]  # training FLOPs; one, unless recipes of several budgets share the track
    seeds: tuple[int, ...]
    encoder: str  # "ViT, 4 blocks of width 96, 12-pixel patches, 96 pixels"
    pixels: tuple[int, ...]  # side of the stored images; one, unless recipes of several share the track
    columns: tuple[Column, ...]
    pooled: tuple[str, ...]  # titles of the tasks behind the mean gain
    ranked: bool  # every pooled task has enough groups to order rows
    sections: tuple[Section, ...]  # the headline first
    comparison: Comparison
    claims: tuple[Judged, ...]
    baselines: tuple[Baseline, ...]  # beside the headline section
    costs: tuple[Cost, ...]
    curves: tuple[Curve, ...]
    missing: tuple[tuple[str, str], ...]  # (what, why): absent tasks and empty cells
    footnotes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]  # (what, value)
    localities: tuple[Locality | None, ...] = ()  # one per column; None where it was not measured
    ceilings: tuple[Ceiling | None, ...] = ()  # one per column; None where it was not measured
    series: tuple[Series, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    ratings: tuple[Rating, ...] = ()
    earlier: str = ""  # that its numbers are of an earlier engine than this code's, or its corpus of another, in words
    superseded: bool = False  # there is a newer board of its modality, corpus name and track
    engine: int = 0  # of its runs
    updated: str = ""  # when its newest run was made, UTC, ISO 8601
    runs: tuple[Run, ...] = ()  # every run behind the rows, twins that are shown as one too
    numbers: Mapping[tuple[str, Column], Resampled] = field(default_factory=dict, repr=False, compare=False)
    # (variant, column) -> the headline metric per seed, as it was resampled


def current(boards: Sequence[Board]) -> list[Board]:
    """Where a visitor should land: boards that are not earlier ones; where there are no others, the newest of these."""
    return [one for one in boards if not one.earlier] or [one for one in boards if not one.superseded]
