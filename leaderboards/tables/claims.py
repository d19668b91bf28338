"""The study's claims in words: what each found, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from leaderboards.boards.board import Board, Judged
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.verdicts import CONTRADICTED, HOLDS
from leaderboards.tables.table import Line, Table, Text, heads_of
from leaderboards.words import PROBES, flops, interval, number

CLAIM_TONES = {HOLDS: "above", CONTRADICTED: "below"}


def tabulate_claims(board: Board) -> tuple[Table, ...]:
    """The study's claims, worded for what was run here."""
    if not board.claims:
        return ()
    budgets = " or ".join(flops(budget) for budget in board.budgets)
    return (
        Table(
            title="The study's claims",
            caption=f"Judged on this board alone: {board.modality}, corpus {board.corpus}, {budgets} training FLOPs "
            "per encoder, linear probe on the mean of patch tokens, chance-corrected differences with 95 % intervals; "
            "what other probes find stands beside, without a verdict. Not adjusted for the number of claims.",
            heads=heads_of("Claim", "On", "Verdict", "Found"),
            rows=tuple(_claim_line(one) for one in board.claims),
        ),
    )


def _claim_line(one: Judged) -> Line:
    return Line(
        head=Text(lines=(one.says,)),
        cells=(
            Text(lines=(one.about, *((", ".join(one.tasks),) if one.tasks else ()))),
            Text(lines=(one.verdict,), tone=CLAIM_TONES.get(one.verdict, "")),
            Text(lines=explain_verdict(one)),
        ),
    )


def explain_verdict(one: Judged) -> tuple[str, ...]:
    """What a verdict rests on: differences or slopes, or why there is none."""
    if one.why:
        return (one.why, *_left_out(one))
    lines = _pair_lines(one, one.estimates)
    others = [
        f"{PROBES.get(probe, probe)}, no verdict: {line}" for probe, e in one.probes for line in _pair_lines(one, e)
    ]
    return (*lines, f"about {one.subject}", *others, *_left_out(one))


def list_estimates(one: Judged) -> tuple[str, ...]:
    """The estimates of a claim, of a slope per unit of measured locality."""
    named = [f"{pair}: " if len(one.pairs) > 1 else "" for pair in one.pairs]
    return tuple(f"{name}{interval(each, signed=True)}" for name, each in zip(named, one.estimates, strict=False))


def _pair_lines(one: Judged, estimates: Sequence[Estimate]) -> list[str]:
    return [
        f"{pair}: {slope_in_words(one, each) if one.slope else interval(each, signed=True)}"
        for pair, each in zip(one.pairs, estimates, strict=True)
    ]


def slope_in_words(one: Judged, slope: Estimate) -> str:
    """What a slope says over the localities that it was fitted to, and nowhere else."""
    low, high = min(one.localities), max(one.localities)
    over = replace(slope, **{end: _times(getattr(slope, end), high - low) for end in ("value", "low", "high")})
    return (
        f"{interval(over, signed=True)} from a measured locality of {low:.2f} to one of {high:.2f} "
        f"(line through {len(one.localities)} tasks, slope {number(slope.value, True)})"
    )


def _times(x: float | None, factor: float) -> float | None:
    return None if x is None else factor * x


def _left_out(one: Judged) -> tuple[str, ...]:
    return (f"not part of it: {', '.join(one.apart)}",) if one.apart else ()
