"""No run, cell, ceiling or baseline changes its identity: against the list of those that are and would be made."""

from pathlib import Path

from benchmark.recipe import canonical, from_json, key
from tests.helpers import identities

LISTED = (Path(__file__).parent / "identities.txt").read_text(encoding="utf-8").splitlines()


def test_what_would_be_made_has_the_listed_ids_and_recipes():
    listed = {line for line in LISTED if not line.startswith("published")}
    assert listed - set(identities.made()) == set()


def test_what_is_published_has_at_least_the_listed_ids_and_recipes():
    listed = {line for line in LISTED if line.startswith("published")}
    assert listed - set(identities.published()) == set()


def test_a_published_run_is_named_by_its_recipe():
    runs = identities.results.read(identities.PUBLISHED, "runs")
    recipes = [from_json(text) for text in runs["recipe"]]
    assert [canonical(recipe) for recipe in recipes] == list(runs["recipe"])
    assert [key(recipe) for recipe in recipes] == list(runs["run"])
