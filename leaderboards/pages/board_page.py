"""Board -> words: every text and number of a page, formatted once, so that HTML and Markdown cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from leaderboards.boards.aggregate import BESIDE
from leaderboards.boards.board import SYNTHETIC, Board, Column
from leaderboards.figures.board_figures import draw_board
from leaderboards.figures.figure import Figure
from leaderboards.stats.intervals import INTERVAL_GROUPS, PRETEXT_SEEDS, RANKED_GROUPS, subject
from leaderboards.stats.verdicts import AS_IF, DEPENDENT, FEW_ERRORS, FEW_TO_TEACH, UNTAUGHT
from leaderboards.tables.alterations import tabulate_ledger, tabulate_robustness, tabulate_scales
from leaderboards.tables.claims import tabulate_claims
from leaderboards.tables.contents import tabulate_costs, tabulate_tasks
from leaderboards.tables.differences import tabulate_differences
from leaderboards.tables.gains import LEARNABLE, ceiling_in_words, tabulate_gains
from leaderboards.tables.ladder import tabulate_ladder_of
from leaderboards.tables.table import Table
from leaderboards.words import flops, interval, number
from tasks.phantoms import scenes

BASELINES = {"Colour histogram": "histogram", "8 × 8 thumbnail": "thumbnail"}  # as calibration names them


@dataclass(frozen=True, kw_only=True)
class BoardPage:
    slug: str
    title: str
    tasks: tuple[str, ...]  # titles
    label: str  # "SYNTHETIC: ...", or ""
    facts: tuple[tuple[str, str], ...]  # what was asked, what was run
    headline: Table
    beside: tuple[Table, ...]  # further tasks, and what reads the same encoders otherwise: directly after the headline
    how: tuple[str, ...]  # how to read it
    missing: tuple[tuple[str, str], ...]
    further: tuple[Table, ...]
    figures: tuple[Figure, ...]
    footnotes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...] = field(
        default=(
            (
                "make verify",
                "recomputes every metric from the stored predictions, and with it the intervals, gains, shares, "
                "adjusted p-values, letters, contrasts, slopes and claims of the published pages, and names any "
                "difference",
            ),
            ("make site", "writes these pages again from the store"),
        )
    )


def describe_board(board: Board, boards: Sequence[Board] = ()) -> BoardPage:
    """boards: those of the site, some of which are rungs of its ladder."""
    beside = [section for section in board.sections[1:] if section.probe in BESIDE and not section.by_group]
    further = [section for section in board.sections[1:] if section not in beside]
    headline, *others = tabulate_gains(board, board.sections[0])
    return BoardPage(
        slug=board.slug,
        title=board.title,
        tasks=tuple(column.title for column in board.columns),
        label=SYNTHETIC if board.synthetic else "",
        facts=_facts(board),
        headline=headline,
        beside=(*others, *(table for section in beside for table in tabulate_gains(board, section))),
        how=_how(board),
        missing=board.missing,
        further=(
            *tabulate_claims(board),
            *tabulate_ladder_of(board, boards),
            *tabulate_differences(board),
            *tabulate_robustness(board),
            *tabulate_scales(board),
            *tabulate_ledger(board),
            *(table for section in further for table in tabulate_gains(board, section)),
            tabulate_tasks(board),
            tabulate_costs(board),
        ),
        figures=draw_board(board),
        footnotes=(
            *calibration(board),
            *_undefined(board),
            *_leakage(board),
            *_summarised(board),
            *board.footnotes,
            *_unrated(board),
        ),
        provenance=board.provenance,
    )


def _summarised(board: Board) -> tuple[str, ...]:
    kinds = dict.fromkeys(one.what if one.kind == "labels" else one.kind for one in board.series if one.summary)
    if not kinds:
        return ()
    return (
        f"The curves ({'; '.join(kinds)}) are summaries: their predictions are not published, so `make verify` finds "
        "only that they are as they were stored; `make bench PROBE=efficiency,fewshot,robustness` computes them.",
    )


def _facts(board: Board) -> tuple[tuple[str, str], ...]:
    budgets = " or ".join(flops(budget) for budget in board.budgets)
    names = ", ".join(cost.name for cost in board.costs) or "no pretext yet"
    simulated = " simulated" if board.synthetic else ""
    fewest = min((len(cost.seeds) for cost in board.costs), default=0)
    return (
        *([("Engine", board.earlier)] if board.earlier else []),
        (
            "What was asked",
            f"At equal training FLOPs, does a frozen encoder pretrained on {board.modality} images answer these tasks "
            "better than its twin, the untrained encoder that it started from?",
        ),
        ("Pretexts", f"{names}, each with its twin"),
        ("Track", f"{board.track}: {budgets or 'no'} training FLOPs per encoder"),
        ("Corpus", f"{board.corpus}: {board.corpus_images:,}{simulated} images, content {board.corpus_digest}"),
        ("Encoder", board.encoder),
        (
            "Ceiling",
            "the same encoder, trained at the same FLOPs with the labels of each task"
            if any(board.ceilings)
            else "not measured",
        ),
        *([] if board.synthetic else [("What it can bear", bearing(board))]),
        ("Seeds", f"{', '.join(map(str, board.seeds))} (a statement here is about {subject(fewest)})"),
    )


def bearing(board: Board) -> str:
    """What a board of real images can say, and what it cannot."""
    known = [column for column in board.columns if column.independent and column.groups >= RANKED_GROUPS]
    judged, untaught = [c for c in known if c.taught], [c for c in known if not c.taught]
    few = [column for column in board.columns if column.independent and column.groups < RANKED_GROUPS]
    unknown = [column for column in board.columns if not column.independent]
    said = [
        f"verdicts on {len(judged)} of {len(board.columns)} tasks, whose patients are known: {_listed(judged)}"
        if judged
        else "no verdict: no task has enough known patients and labels that teach it"
    ]
    said += [f"no verdict where {UNTAUGHT}: {_listed(untaught)}"] if untaught else []
    said += [f"too few patients to rank: {_listed(few)}"] if few else []
    said += [f"no verdict where no patient is known: {_listed(unknown)}"] if unknown else []
    return (
        "; ".join(said)
        + ". It speaks of these tasks and this corpus; how local their signal is was not set by anybody, "
        "so the study's claim across modalities cannot be tested here."
    )


def _listed(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.title} ({column.groups:,})" for column in columns)


def _how(board: Board) -> tuple[str, ...]:
    fewest = min((len(cost.seeds) for cost in board.costs), default=0)
    said = [
        "Above twin: the whole interval of the gain lies above zero. Not shown above twin: it covers zero, which is "
        "no evidence of equality. Below twin: it lies below zero. The gains of all rows on all tasks are a family, and "
        "so are those over the tasks: their intervals hold together, and p is adjusted so that it is under .05 where "
        "the interval leaves out zero. The interval of a score, and of a gain without a p, is of that number alone.",
        "Intervals leave out groups (never single images) in turn, within strata of their label and paired between "
        "methods, and cross them with pretraining seeds where there are several: docs/statistics.md.",
        f"Under {INTERVAL_GROUPS} groups only the value is shown; from {INTERVAL_GROUPS} an interval; from "
        f"{RANKED_GROUPS} rows are ordered.",
        f"{FEW_ERRORS.capitalize()}: equal methods would not come out different at the stated rate; there is no "
        "verdict.",
    ]
    if not all(column.independent for column in board.columns):
        said.append(
            f"{DEPENDENT.capitalize()}: no patient or slide is known, so values and intervals are {AS_IF}; there is no "
            "verdict and no rank."
        )
    said += _ceilings(board)
    if board.pooled:
        said.append(
            f"The mean gain is over fixed tasks: {', '.join(board.pooled)}. Each gain is divided by one minus chance."
        )
    if board.ranked:
        said.append(
            "Rows with a letter in common are not shown to differ (paired differences over the tasks); a row's "
            "place lies between its limits. Rows are ordered by mean gain; there are no bare ranks."
        )
    else:
        said.append("Rows are ordered by mean gain for reading only: too few groups, tasks or rows to tell them apart.")
    if fewest < PRETEXT_SEEDS:
        said.append(
            f"With under {PRETEXT_SEEDS} pretraining seeds this is about {subject(fewest)}, not about the recipe."
        )
    if board.synthetic:
        said.append("The images are simulated. Nothing here says how a method does on patients.")
    return tuple(said)


def _ceilings(board: Board) -> list[str]:
    """What floor and ceiling say of each task, and where there is therefore no verdict."""
    unmeasured, low, said = [], [], []
    for place, column in enumerate(board.columns):
        one = board.ceilings[place] if board.ceilings else None
        if one is None:
            unmeasured.append(column.title)
        elif not column.taught:
            reason = UNTAUGHT if column.groups >= INTERVAL_GROUPS else FEW_TO_TEACH
            said.append(
                f"{reason.capitalize()}: no verdict. This is so on {column.title}, whose ceiling of "
                f"{interval(one.score)} is not shown above the twin."
            )
        elif ceiling_in_words(board, place):
            low.append(f"{column.title} ({number(one.score.value)})")
    if any(board.ceilings):
        said.insert(
            0,
            "Share: of the way from the twin (the floor) to the same encoder trained with labels (the ceiling), by the "
            "delta method over the same test groups; the seeds of a ceiling are averaged and taken as they are. Where "
            "the ceiling is not shown above the twin there is no share, no verdict and no rank.",
        )
    if low:
        said.append(
            f"Marked: even with labels this encoder stays under an AUROC of {LEARNABLE:.2f} at this budget on "
            f"{', '.join(low)}."
        )
    if unmeasured:
        whole = len(unmeasured) == len(board.columns)
        of = "" if whole else f" on {', '.join(unmeasured)}"
        said.append(f"Ceiling not measured{of}: what labels would reach at this budget is not known.")
    return said


def calibration(board: Board) -> tuple[str, ...]:
    """What of a phantom board lies outside the bounds that its family was calibrated to, on other seeds."""
    if not board.synthetic or board.pixels != (scenes.CALIBRATED_PIXELS,):
        return ()
    older = {column.version for column in board.columns if _latent(column)} - {scenes.VERSION}
    if older:
        return (
            f"These are simulated images of version {', '.join(map(str, sorted(older)))}: the bounds of calibration "
            f"that this code knows are of version {scenes.VERSION}, and are not held against them.",
        )
    measured = [(one.name, BASELINES.get(one.name), one.scores) for one in board.baselines]
    measured += [
        (row.name, "twin", tuple(entry.score for entry in row.entries)) for row in board.sections[0].rows if row.twin
    ]
    said = []
    for name, kind, scores in measured:
        for column, score in zip(board.columns, scores, strict=True):
            if kind is None or score is None or not _latent(column):
                continue
            low, high = scenes.BOUNDS[kind]
            if not low <= score.value <= high:
                said.append(
                    f"{column.title}: {name} {number(score.value)} lies outside the bounds of calibration, "
                    f"{number(low)} to {number(high)}, which were met on development seeds (docs/phantoms.md)."
                )
    return tuple(said)


def _latent(column: Column) -> bool:
    return column.synthetic and column.task.removeprefix("phantom_") in scenes.LATENTS


def names_contradicted(board: Board) -> str:
    """Where the measured locality of the phantom tasks does not fall from local to global: that sentence, or ""."""
    measured = {
        column.task.removeprefix("phantom_"): one.value
        for column, one in zip(board.columns, board.localities, strict=False)
        if column.synthetic and one is not None and one.value is not None
    }
    known = [(name, measured[name]) for name in scenes.LATENTS if name in measured]
    if all(one[1] >= other[1] for one, other in pairwise(known)):
        return ""
    values = ", ".join(f"{name} {value:.2f}" for name, value in known)
    return (
        f"The names do not pass the measure: measured locality is {values}. A name says what was simulated, not how "
        "local its signal is."
    )


def _unrated(board: Board) -> tuple[str, ...]:
    return (
        () if board.ratings else ("No expert ratings yet: no one has been asked what the maps show (docs/reader.md).",)
    )


def _undefined(board: Board) -> tuple[str, ...]:
    """Bootstrap draws in which a fold lost a class, where there were any."""
    said = {}
    for row in board.sections[0].rows:
        for column, entry in zip(board.columns, row.entries, strict=True):
            if entry.score is not None and entry.score.draws_undefined:
                count = f"{entry.score.draws_undefined:,} of {entry.score.draws:,} bootstrap draws"
                said[column] = f"{column.title}: in {count} a fold lost a class and was averaged without it."
    return tuple(said.values())


def _leakage(board: Board) -> tuple[str, ...]:
    warning = "the leakage check found test images, near-duplicates or groups of them, in the corpus or in training"
    unchecked = "leakage was not wholly checked"
    unnamed = "no patient or slide is known, so patients may be on both sides of the split: leakage is unknown"
    notes = []
    for column in board.columns:
        if column.leakage == "warn":
            notes.append(f"{column.title}: {warning}.")
        elif column.leakage == "unknown":
            notes.append(f"{column.title}: {unchecked if column.independent else unnamed}.")
    return tuple(notes)
