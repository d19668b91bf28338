"""What a reader sends back: one JSON file, read against the pack it belongs to, and looked at for what is odd."""

import json
import math
from pathlib import Path

import pandas as pd

from benchmark.maps.reader.design import CHOOSE
from benchmark.maps.reader.pack import Pack
from tasks.base import DataError

LARGEST = 10_000_000  # bytes of a file
FAST, HURRIED = 1.5, 0.2  # seconds; the share of screens answered faster than that which is flagged
STRAIGHT = 0.9  # share of ratings with one answer which is flagged
COLUMNS = ("item", "question", "answer", "seconds", "comment")


def read(path: Path, pack: Pack) -> tuple[str, pd.DataFrame]:
    """The reader's code and their answers joined with the key, one row a question; answer is a number from 1 to 5, or 1
    and 0 for the left and the right map; NaN where they could not judge.

    Raises DataError, naming the file, for anything but the answers of a reader of this pack who consented.
    """

    def refuse(why: str, remedy: str = "ask the reader to export the file again") -> DataError:
        return DataError(f"{path}: {why}; {remedy}")

    try:
        if path.stat().st_size > LARGEST:
            raise refuse(f"over {LARGEST / 1e6:.0f} MB")
        found = json.loads(path.read_text(encoding="utf-8"))
        header = {name: found[name] for name in ("pack", "reader", "consent", "answers")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise refuse(f"not a file of answers ({error!r})") from error
    if header["pack"] != pack.about["pack"]:
        raise refuse(f"answers pack {header['pack']!r}, not {pack.about['pack']}", "name the pack that was read")
    if header["reader"] not in pack.about["readers"]:
        raise refuse(f"reader {header['reader']!r} is none of {', '.join(pack.about['readers'])}")
    if header["consent"] is not True:
        raise refuse("the reader did not tick the consent", "leave the file out")
    key = {row["item"]: row for row in pack.key if row["reader"] == header["reader"]}
    rows, seen = [], set()
    for number, answer in enumerate(header["answers"] if isinstance(header["answers"], list) else [None]):
        if not isinstance(answer, dict) or set(answer) - {"at"} != set(COLUMNS):
            raise refuse(f"answer {number} is not one of {', '.join(COLUMNS)}")
        if not isinstance(answer["item"], str) or answer["item"] not in key:
            raise refuse(f"answer {number} is about the item {answer['item']!r}, which this reader was not shown")
        row, asked = key[answer["item"]], (answer["item"], answer["question"])
        if answer["question"] not in (("choice",) if row["kind"] == CHOOSE else ("relevance", "spurious")):
            raise refuse(f"answer {number}: the item was not asked {answer['question']!r}")
        if asked in seen:
            raise refuse(f"item {answer['item']} is answered twice")
        seen.add(asked)
        value, seconds = _read_value(answer["answer"], row["kind"]), answer["seconds"]
        if value is None:
            raise refuse(f"answer {number} is {answer['answer']!r}: 1 to 5, left or right, or 0 for cannot judge")
        if not isinstance(seconds, int | float) or not 0 <= seconds < 1e6:
            raise refuse(f"answer {number} took {seconds!r} seconds")
        rows.append({**row, "question": answer["question"], "answer": value, "seconds": float(seconds)})
    columns = [*pack.key[0], "question", "answer", "seconds"]
    return header["reader"], pd.DataFrame(rows, columns=columns)


def _read_value(given: object, kind: str) -> float | None:
    if given == 0 and not isinstance(given, bool):
        return math.nan
    if kind == CHOOSE:
        return float(given == "left") if given in ("left", "right") else None
    return float(given) if type(given) is int and 1 <= given <= 5 else None


def flag(reader: str, rows: pd.DataFrame, pack: Pack) -> list[str]:
    """What a study's lead should know about a reader's answers before trusting them."""
    asked = sum(1 if row["kind"] == CHOOSE else 2 for row in pack.key if row["reader"] == reader)
    flags = []
    if len(rows) < asked:
        flags.append(f"{asked - len(rows)} of {asked} questions are not answered")
    if unsure := int(rows["answer"].isna().sum()):
        flags.append(f"{unsure} answers are `cannot judge`")
    main = rows[~rows["practice"]]
    for question, some in main.groupby("question"):
        shares = some["answer"].value_counts(normalize=True)
        if len(some) < 10 or shares.empty or shares.iloc[0] <= STRAIGHT:
            continue
        if question == "choice":
            flags.append(f"one side: {shares.iloc[0]:.0%} of the choices are the same side")
        else:
            flags.append(f"straight line: {shares.iloc[0]:.0%} of the answers about {question} are {shares.index[0]:g}")
    if len(main) and (hurried := float((main["seconds"] < FAST).mean())) > HURRIED:
        flags.append(f"speed: {hurried:.0%} of the answers took less than {FAST:g} s")
    return flags


def list_ratings(rows: pd.DataFrame, pack: Pack, created: str) -> list[dict]:
    """Rows of the table `ratings`: everything but practice."""
    names = ("reader", "item", "question", "case", "group", "task", "arm", "other", "repeats", "seconds", "answer")
    kept = rows.loc[~rows["practice"], [*names]]
    runs = pack.about["arms"]
    kept = kept.assign(
        pack=pack.about["pack"],
        modality=pack.about["modality"],
        created=created,
        run=kept["arm"].map(lambda arm: runs.get(arm, "")),
        other_run=kept["other"].map(lambda arm: runs.get(arm, "")),
        answer=kept["answer"].astype(object).where(kept["answer"].notna(), None),
    )
    return kept.to_dict("records")
