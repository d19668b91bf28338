"""Tuning trials: development phantoms alone, changes by name, a table that says what differed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark import tracks
from benchmark.lab import trials
from benchmark.recipe import Corpus
from benchmark.storage import results
from leaderboards.__main__ import app as leaderboards
from leaderboards.boards import trials as trials_shown
from tasks.phantoms import population, scenes

CORPUS = Corpus(name="development", members=(), digest="0" * 12, images=48)


def recipe(pretext="mae"):
    return tracks.recipe("smoke", pretext, modality="histo", corpus=CORPUS, policy="simulated", seed=trials.SEED)


@pytest.fixture
def small(monkeypatch):
    for module in (scenes, trials):
        monkeypatch.setattr(module, "PATIENTS", {"train": 24, "val": 16, "test": 24})
    monkeypatch.setattr(scenes, "POPULATION", 72)


def test_only_development_images_are_looked_at(small):
    for modality in scenes.MODALITIES:
        reported = {s.digest for s in scenes.family(modality).scan(None, "local")}
        reported |= {s.digest for s in population.source(modality).scan(None)}
        assert not reported & {s.digest for s in population.source(modality, scenes.DEVELOPMENT).scan(None)}
        for task, samples in trials.list_development_tasks(modality):
            assert not reported & {sample.digest for sample in samples}
            assert task.images != scenes.family(modality).images
            assert task.synthetic


def test_reported_seeds_are_refused():
    done = CliRunner().invoke(trials.app, ["mae", "--seed", "0"])
    assert done.exit_code == 2
    assert "1000" in done.output


def test_changes_are_of_known_settings_and_nothing_else_moves():
    changed = trials.change_settings(recipe(), ["lr=2e-3", "crop=[0.5, 1.0]", "clip=null"])
    assert changed.settings == replace(recipe().settings, lr=2e-3, crop=(0.5, 1.0), clip=None)
    with pytest.raises(ValueError, match=r"unknown setting of mae 'rl'.*lr"):
        trials.change_settings(recipe(), ["rl=1"])
    with pytest.raises(ValueError, match="lr=fast: not JSON"):
        trials.change_settings(recipe(), ["lr=fast"])


def test_what_follows_from_a_change_is_changed_with_it():
    given = recipe("dinov3").settings
    long = tracks.recipe("1e14", "dinov3", modality="histo", corpus=CORPUS, policy="simulated", seed=trials.SEED)
    for changes in ([], ["horizon=0.2"], ["local_crops=8"], ["horizon=0.05", "batch=32"]):
        made = trials.change_settings(long, changes)
        assert 1 / (1 - made.settings.momentum) == pytest.approx(made.settings.horizon * tracks.steps(made))
    assert trials.change_settings(long, []) == long
    halved = trials.change_settings(recipe("dinov3"), ["batch=32"]).settings
    assert halved.lr == pytest.approx(given.lr / 2**0.5)
    assert trials.change_settings(recipe("dinov3"), ["batch=32", "lr=1e-3"]).settings.lr == 1e-3
    fixed = trials.change_settings(long, ["momentum=0.99"]).settings
    assert (fixed.momentum, fixed.horizon) == (0.99, None)
    assert trials.change_settings(long, ["centring=mean"]).settings.centring == "mean"
    assert trials.change_settings(recipe(), ["target=raw"]).settings == replace(recipe().settings, target="raw")
    with pytest.raises(ValueError, match=r"horizon=2: a share of the optimiser steps"):
        trials.change_settings(long, ["horizon=2"])


def test_a_trial_is_stored_once_and_told_in_a_table(small, tmp_path):
    arguments = ["--modality", "histo", "--track", "smoke", "--root", str(tmp_path / "r"), "--cache", str(tmp_path)]
    ran = CliRunner().invoke(trials.app, ["mae", "--change", "lr=2e-3", *arguments])
    assert ran.exit_code == 0, ran.output
    rows = results.read(tmp_path / "r", "trials")
    assert sorted(rows.pretext.unique()) == ["mae", "twin"]
    assert rows.groupby("pretext").size().tolist() == [11, 11]
    assert set(trials_shown.latents(dict.fromkeys(rows.task, 0.5))) == set(trials_shown.LATENTS)
    assert np.isfinite(rows.score).all()
    assert json.loads(rows[rows.pretext == "mae"].settings.iloc[0])["lr"] == 2e-3
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*.parquet")}
    CliRunner().invoke(trials.app, ["mae", "--change", "lr=2e-3", *arguments])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*.parquet")} == files
    said = CliRunner().invoke(leaderboards, ["trials", "--results", str(tmp_path / "r")]).output
    (told,) = [line for line in said.splitlines() if line.startswith("| MAE") and "lr 0.002" in line]
    floor, own = (dict(rows[rows.pretext == name][["task", "score"]].to_numpy()) for name in ("twin", "mae"))
    gains = trials_shown.latents({task: own[task] - floor[task] for task in own})
    assert told.endswith(f"| {np.mean(list(gains.values())):+.3f} |".replace("-", "−"))
    assert sum("the floor" in line for line in said.splitlines()) == 1
