"""The page of tuning trials: all of them as rows, how many each pretext had, and the claims under every recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmark.tracks import RECOMMENDED
from leaderboards.boards import claims, trials
from leaderboards.boards.board import SYNTHETIC
from leaderboards.boards.claims import Claim
from leaderboards.boards.contrasts import GAIN, PER
from leaderboards.boards.selection import NAMES
from leaderboards.boards.trials import TWIN, Trial, Trials
from leaderboards.pages.page import Block, Page
from leaderboards.tables.table import Line, Table, Text, heads_of
from leaderboards.words import flops, number

PATH = "trials.html"
NOTHING = Text(lines=("–",), tone="missing")
Places = Mapping[tuple[str, str], float]  # (modality, task) -> measured locality


def describe_trials(found: Trials, places: Places) -> Page:
    """places: as measured on the reported family, and stored."""
    tracks = list(dict.fromkeys(one.track for one in found.current))
    blocks = [block for track in tracks for block in _track(track, found, places)]
    earlier = tuple(_table(track, found.earlier) for track in dict.fromkeys(one.track for one in found.earlier))
    return Page(
        path=PATH,
        title="Tuning trials",
        label=SYNTHETIC,
        lead="How the recipes were chosen: every trial that is stored, one run each on development images and a "
        "development seed. No reported seed and no real task was looked at.",
        blocks=(
            *(blocks or [Block(title="Trials", texts=("No trial is stored.",))]),
            Block(title="Trials of earlier versions", tables=earlier, folded=True),
        ),
    )


def format_trials(found: Trials) -> str:
    """Every current trial as Markdown tables, one a track."""
    tables = [_table(track, found.current) for track in dict.fromkeys(one.track for one in found.current)]
    return "\n\n".join("\n".join([table.title, "", *_lines(table)]) for table in tables)


def _lines(table: Table) -> Iterator[str]:
    rows = [table.heads, (Text(lines=("---",)),) * len(table.heads), *((row.head, *row.cells) for row in table.rows)]
    for cells in rows:
        yield f"| {' | '.join('; '.join(cell.lines) for cell in cells)} |"


def _track(track: str, found: Trials, places: Places) -> Iterator[Block]:
    here = [one for one in found.current if one.track == track]
    yield Block(
        title=f"Trials of the {track} track",
        texts=(_counted(here), *_chosen(track, here)),
        tables=(_table(track, here),),
    )
    tables = tuple(_claims(track, here, places))
    if tables:
        yield Block(
            title=f"The claims under every recipe, {track} track",
            texts=(
                "What each claim is estimated at when the recipe of one pretext is replaced by each of its trials, the "
                "other at the chosen recipe. One run each on a development seed: no interval, no verdict. Slopes are "
                f"{PER[GAIN]}, per unit of the locality that was measured on the reported family; development images "
                "have no ceilings, and trials are read on clean images, so they say nothing of the other claims.",
            ),
            tables=tables,
        )


def _counted(here: Sequence[Trial]) -> str:
    """How many trials each pretext had, and whether that is the same number."""
    found = {modality: count for (_, modality), count in trials.counts(here).items()}
    pretexts = sorted({name for count in found.values() for name in count})
    every = {count[name] for count in found.values() for name in pretexts}
    if len(every) == 1:
        return f"Each of {', '.join(map(_name, pretexts))} had {every.pop()} trials in {' and '.join(sorted(found))}."
    told = (
        f"{modality}: " + ", ".join(f"{_name(x)} {count[x]}" for x in pretexts) for modality, count in found.items()
    )
    return f"Not the same number of trials for each pretext. {'; '.join(told)}."


def _chosen(track: str, here: Sequence[Trial]) -> Iterator[str]:
    """Of every pretext, whether the recipe that is recommended is the best by the rule."""
    for pretext in dict.fromkeys(one.pretext for one in here if one.pretext != TWIN):
        means = trials.means(here, track, pretext)
        if RECOMMENDED not in means:
            yield f"{_name(pretext)}: no trial of what is recommended now, or no twin to measure its gain by."
            continue
        own, best = means[RECOMMENDED], max(means, key=lambda name: means[name])
        told = "the highest" if means[best] <= own else f"not the highest: {number(means[best], True)} with {best}"
        yield (
            f"{_name(pretext)}: the chosen recipe gains {number(own, True)}, mean over latents and modalities, "
            f"{told} of {len(means)}."
        )


def _table(track: str, here: Sequence[Trial]) -> Table:
    here = [one for one in here if one.track == track]
    heads = (
        "Pretext",
        "Changed settings",
        "Modality",
        "Seed",
        "FLOPs",
        "Images",
        *trials.LATENTS,
        "Mean gain over twin",
    )
    return Table(
        title=f"Trials of the {track} track",
        caption="AUROC of the linear probe on the mean of patch tokens, development test patients; of texture the mean "
        "over its levels, of relation over its distances. A recipe is chosen by its mean gain over latents.",
        heads=heads_of(*heads),
        rows=tuple(_row(one, here) for one in here),
    )


def _row(one: Trial, here: Sequence[Trial]) -> Line:
    scores, gained = trials.latents(one.scores), trials.gain(one, here)
    twin = one.pretext == TWIN
    floor = ("the floor", *(("without cls token",) if one.cls is False else ()))
    settings = floor if twin else (one.changes, *(("chosen",) if one.chosen else ()))
    return Line(
        head=Text(lines=(_name(one.pretext),)),
        cells=(
            Text(lines=settings, tone="above" if one.chosen else ""),
            Text(lines=(one.modality,)),
            Text(lines=(str(one.seed),)),
            Text(lines=(flops(one.flops),)),
            Text(lines=(f"{one.images:,}",)),
            *(Text(lines=(number(scores[name]),)) if name in scores else NOTHING for name in trials.LATENTS),
            NOTHING if gained is None else Text(lines=(number(gained, True),)),
        ),
        twin=twin,
    )


def _claims(track: str, here: Sequence[Trial], places: Places) -> Iterator[Table]:
    """A small table for each claim of two pretexts that have trials."""
    pretexts = {_name(one.pretext): one.pretext for one in here}
    for claim in claims.load():
        names = (*claim.ahead, claim.behind)
        if len(names) == 2 and set(names) <= set(pretexts) and not claim.corruption and claim.per == GAIN:
            yield _claim(claim, track, here, pretexts, places)


def _claim(claim: Claim, track: str, here: Sequence[Trial], pretexts: Mapping[str, str], places: Places) -> Table:
    sides = (claim.ahead[0], claim.behind)
    modalities = sorted({one.modality for one in here})
    rows = [(None, RECOMMENDED)]
    for side in sides:
        tried = dict.fromkeys(one.changes for one in here if one.pretext == pretexts[side] and not one.chosen)
        rows += [(side, changes) for changes in tried]

    def value(modality: str, replaced: str | None, changes: str) -> Text:
        own = [one for one in here if one.modality == modality]
        first, second = (
            [
                one
                for one in own
                if one.pretext == pretexts[side] and one.changes == (changes if side == replaced else RECOMMENDED)
            ]
            for side in sides
        )
        located = {task: x for (where, task), x in places.items() if where == modality}
        found = trials.claimed(claim, first, second, located)
        return NOTHING if found is None else Text(lines=(number(found, True),))

    what = claim.says.format(ahead=sides[0], behind=sides[1], at="", within=claim.family, per=PER[claim.per])
    return Table(
        title=f"{sides[0]} − {sides[1]}",
        caption=f"{' '.join(what.split())}, {track} track: {sides[0]} − {sides[1]}, one run each, development seed.",
        heads=heads_of("Recipe", *modalities),
        rows=tuple(
            Line(
                head=Text(lines=("chosen recipes" if side is None else f"{side}: {changes}",)),
                cells=tuple(value(modality, side, changes) for modality in modalities),
            )
            for side, changes in rows
        ),
    )


def _name(pretext: str) -> str:
    return "untrained twin" if pretext == TWIN else NAMES.get(pretext, pretext)
