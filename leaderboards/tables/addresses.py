"""Where the pages of tasks, pretexts and runs lie within the site."""

from __future__ import annotations

from leaderboards.boards.board import Row
from leaderboards.words import slug


def task_page(modality: str, task: str) -> str:
    return f"tasks/{slug(f'{modality}-{task}')}.html"


def pretext_page(pretext: str) -> str:
    return f"pretexts/{slug(pretext)}.html"


def recipe_page(variant: str) -> str:
    """The page of all seeds of a recipe. variant: hash of the recipe without its seed."""
    return f"runs/{slug(variant)}.html"


def run_link(variant: str, run: str) -> str:
    """Where a run begins on the page of its recipe."""
    return f"{recipe_page(variant)}#{slug(run)}"


def seed_links(row: Row) -> tuple[tuple[str, str], ...]:
    """(text, address) of every run of a row of a board."""
    runs = zip(row.seeds, row.runs, strict=False)
    return tuple((f"seed {seed}", run_link(row.variant, run)) for seed, run in runs)
