"""`regression` and `reproduce`: what is published is computed again, and a number that moved is named."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmark import run, tracks
from benchmark.lab import reproduce
from benchmark.recipe import Runtime
from benchmark.storage import results
from benchmark.study import Wanted, survey
from tests.helpers.boards import rewrite


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def runtime(folder: Path, cache: Path) -> Runtime:
    return Runtime(data=folder / "data", results=folder / "results", cache=cache)


@pytest.fixture(scope="module")
def published(tmp_path_factory, cache) -> Path:
    """Two seeds of MAE on one task of the smoke track."""
    here = runtime(tmp_path_factory.mktemp("published"), cache)
    asked = {"modalities": ("histo",), "pretexts": ("mae",), "tasks": ("phantom_local",)}
    wanted = Wanted(track="smoke", seeds=2, ceilings=0, **asked)
    study = survey(wanted, "histo", here.data, here.cache)
    run.bench(wanted, [study], here, tracks.get("smoke").stored_pixels, print)
    return here.results


@pytest.fixture
def copy(published, tmp_path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def change(root: Path, by: float, **which: object) -> None:
    """Move the stored values of some cells."""
    for path in results.files(root, "cells"):
        row = pq.read_table(path).to_pylist()[0]
        if all(row[name] == value for name, value in which.items()):
            rewrite(path, lambda rows: [one.update(value=one["value"] + by) for one in rows])


@pytest.mark.parametrize(
    ("which", "bump"),
    [
        ({"seed": 0, "twin": False, "probe": "linear"}, "VERSION in benchmark/pretexts/mae.py"),
        ({"seed": 0, "probe": "linear"}, "VERSION in benchmark/probes/linear.py"),
        ({"seed": 0}, "ENGINE in benchmark/recipe.py"),
    ],
)
def test_a_moved_number_is_named_with_its_tolerance_and_version(published, copy, which, bump):
    change(copy, 0.5, **which)
    found = reproduce.compare(copy, published)
    assert found.moved
    assert {one.bump for one in found.moved} == {bump}
    line = str(found.moved[0])
    assert "histo mae" in line
    assert "moved by -0.5, tolerance" in line


def test_other_weights_may_differ_by_the_spread_of_the_seeds(published, copy):
    """A retraining elsewhere gives other weights: the tolerance is then what the published seeds differ by."""
    for path in results.files(copy, "cells"):
        rewrite(path, lambda rows: [one.update(weights_sha256="0" * 64) for one in rows])
    assert reproduce.compare(copy, published).moved == []
    change(copy, 0.5, seed=0, twin=False)
    assert reproduce.compare(copy, published).moved


def test_one_seed_has_no_spread_and_that_is_said(published, copy):
    for path in results.files(copy, "cells"):
        rewrite(path, lambda rows: [one.update(weights_sha256="0" * 64, value=one["value"] + 0.1) for one in rows])
        if pq.read_table(path)["seed"][0].as_py() == 1:
            shutil.rmtree(path.parent)
    found = reproduce.compare(copy, published)
    assert found.moved == []
    assert any("are not judged: one published seed has no spread" in note for note in found.notes)


def test_a_run_is_reproduced_from_its_stored_recipe(published, tmp_path, cache):
    row = results.read(published, "runs").query("budget_flops > 0 and seed == 1").iloc[0]
    found = reproduce.reproduce_run(row.run[:8], published, runtime(tmp_path, cache), print)
    new = results.read(tmp_path / "results", "runs").set_index("run")
    assert new.loc[row.run, "weights_sha256"] == row.weights_sha256
    assert (found.compared, found.moved) == (len(results.read(tmp_path / "results", "cells")), [])
    assert found.compared > 0


def test_what_cannot_be_reproduced_says_why(published, copy, tmp_path, cache, monkeypatch):
    with pytest.raises(ValueError, match="no stored run begins with 'zzz'; stored: "):
        reproduce.reproduce_run("zzz", published, runtime(tmp_path, cache), print)
    row = results.read(published, "runs").query("budget_flops > 0 and seed == 1").iloc[0]
    monkeypatch.setattr(reproduce, "ENGINE", 99)
    with pytest.raises(ValueError, match=f"of engine 99 .*check out commit {row.commit}"):
        reproduce.reproduce_run(row.run, published, runtime(tmp_path, cache), print)
