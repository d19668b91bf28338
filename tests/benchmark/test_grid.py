"""A grid is worked through as it was frozen, or refused by file, line and remedy."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import grid, plan, tracks
from benchmark.__main__ import app
from benchmark.execution import slurm
from benchmark.lab.goldens import CORPUS
from benchmark.recipe import ENGINE, Recipe, canonical, key, twin
from benchmark.study import Study, Wanted, survey
from tasks.base import DataError

POLICY = "simulated at the stored size"


def recipe(pretext: str = "mae", track: str = "smoke", **more: object) -> Recipe:
    asked = {"modality": "histo", "corpus": CORPUS, "policy": POLICY, "seed": 0} | more
    return tracks.recipe(track, pretext, **asked)


def file(folder: Path, *lines: str) -> Path:
    path = folder / "runs.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def line(**changed: object) -> str:
    return json.dumps(json.loads(canonical(recipe())) | changed, sort_keys=True, separators=(",", ":"))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    wanted = Wanted(modalities=("histo",), track="smoke", pretexts=(), tasks=("phantom_local",), corpus="phantom")
    return survey(wanted, "histo", folder / "data", folder / "cache")


def asked(*recipes: Recipe, **more: object) -> Wanted:
    return Wanted(modalities=("histo",), track="smoke", pretexts=("dinov3",), recipes=recipes, **more)


def test_what_is_written_is_read_and_twins_are_implied(tmp_path):
    made = [recipe(), recipe("ijepa", "demo", seed=3), recipe("dinov3:dino", modality="ultrasound")]
    grid.write([one for run in made for one in (run, twin(run))], tmp_path / "a folder" / "runs.jsonl")
    path = tmp_path / "a folder" / "runs.jsonl"
    assert list(map(key, grid.read(path))) == list(map(key, made))
    assert path.read_text(encoding="utf-8").splitlines() == list(map(canonical, made))
    assert [one.name for one in path.parent.iterdir()] == ["runs.jsonl"]


def test_a_grid_is_frozen_once_written(tmp_path):
    path = tmp_path / "runs.jsonl"
    grid.write([recipe()], path)
    grid.write([recipe(), twin(recipe())], path)
    with pytest.raises(DataError, match=r"runs\.jsonl: holds something else, and a grid is frozen once written"):
        grid.write([recipe(seed=1)], path)
    assert len(grid.read(path)) == 1
    for nothing in ([], [twin(recipe())], [recipe(), recipe()]):
        with pytest.raises(DataError, match="at least one run, and each once"):
            grid.write(nothing, tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (canonical(recipe())[:-30], "not a recipe that this code knows"),
        ("null", "not a recipe that this code knows"),
        (canonical(recipe(seed=1)), r"is on line 1 already; take one of them out"),
        (line(engine=ENGINE - 1), f"frozen for engine {ENGINE - 1} and mae .*; this code, of engine {ENGINE} and"),
        (line(pretext_version=99), f"frozen for engine {ENGINE} and mae 99; this code"),
        (line(budget=0.0), "a grid lists runs with their FLOPs, twins go with them"),
        (line(budget=30000000000), "a budget of 30000000000"),
        (line(seed=-1), "seed -1 is no whole number from 0 on"),
        (line(modality="hist"), "did you mean 'histo'"),
        (line(track="smok"), "did you mean 'smoke'"),
        (line(track=3), "runs.jsonl:2: "),
        (line(pretext="mea"), "did you mean 'mae'"),
        (line(precision="tf32"), "unknown precision 'tf32'"),
        (line(stored_pixels=48), "images stored at 48 pixels, the smoke track has 32 here"),
        (line(settings={"batch": 64}), "runs.jsonl:2: "),
        (line(settings=asdict(recipe().settings) | {"zzz": 1}), "zzz"),
        (
            line(settings={k: v for k, v in asdict(recipe().settings).items() if k != "warmup"}),
            "settings of mae are missing",
        ),
        (line().replace(",", ", "), "not written as run"),
    ],
)
def test_a_broken_line_is_named_with_its_remedy(tmp_path, broken, said):
    path = file(tmp_path, canonical(recipe(seed=1)), broken)
    with pytest.raises(DataError, match=r"runs\.jsonl:2: .*(write the grid again|take one of them out)") as refused:
        grid.read(path)
    assert refused.match(said)


def test_a_file_that_is_no_grid_says_how_one_is_written(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text("\n \n", encoding="utf-8")
    for name in ("nowhere", "binary", "empty", "."):
        with pytest.raises(DataError, match=r"no (grid|run in it).*`python -m benchmark plan --write FILE`"):
            grid.read(tmp_path / name)


def test_runs_of_a_grid_replace_those_that_options_compose(study):
    here = {"corpus": study.pinned.corpus}
    small, large = recipe(**here), replace(recipe(**here), budget=6e10)
    other = recipe("ijepa", seed=7, **here)
    made = plan.recipes(asked(other, small, large, recipe(modality="ultrasound")), study, {})
    assert list(map(key, made)) == list(map(key, [other, twin(other), small, twin(small), large]))
    only = plan.recipes(asked(other, small, runs=(key(twin(small))[:8],)), study, None)
    assert only == [twin(small)]


def test_other_images_than_were_frozen_are_refused(study):
    corpus = study.pinned.corpus
    altered = recipe(corpus=replace(corpus, digest="0123456789ab"))
    said = rf"{key(altered)} .* phantom 0123456789ab of .* here it is phantom {corpus.digest} of .*; name the same"
    with pytest.raises(DataError, match=said):
        plan.recipes(asked(altered), study, None)
    with pytest.raises(DataError, match=rf"squared by 'padded', here by '{POLICY}'; set --policy"):
        plan.recipes(asked(recipe(corpus=corpus, policy="padded")), study, None)


def test_unreadable_images_are_compared_once_they_are_known(study):
    whole = recipe(corpus=study.pinned.corpus)
    some = replace(whole, skipped=("phantom_population/a", "phantom_population/b"))
    assert plan.recipes(asked(some), study, None)
    assert plan.recipes(asked(some), study, {"phantom_population": ("a", "b")})
    some_left_out, other_left_out = {"phantom_population": ("a",)}, {"phantom_population": ("b",)}
    for frozen, skipped in ((some, {}), (some, some_left_out), (whole, other_left_out)):
        with pytest.raises(DataError, match=r"unreadable images left out, here they are \d: .*phantom_population/b"):
            plan.recipes(asked(frozen), study, skipped)


def test_a_corpus_that_is_not_here_is_no_empty_grid(study):
    absent = replace(study, pinned=None, tasks={}, absent={"corpus": "no dataset found under data"})
    with pytest.raises(DataError, match="the grid's histo runs is not here: no dataset found under data"):
        plan.recipes(asked(recipe()), absent, None)
    assert plan.recipes(asked(recipe()), Study(modality="histo", pinned=None), None) == []  # TASK= of the other


def test_a_grid_is_worked_through_by_track_and_corpus():
    local = replace(CORPUS, name="local")
    listed = [
        recipe(),
        recipe(track="demo", modality="ultrasound"),
        recipe(modality="ultrasound"),
        recipe(corpus=local),
    ]
    narrowed = Wanted(modalities=(), track="", pretexts=(), tasks=("busi",), probes=("knn",), policy="crop")
    made = grid.asked(listed, narrowed)
    assert [(one.track, one.corpus, one.modalities) for one in made] == [
        ("smoke", "phantom", ("histo", "ultrasound")),
        ("demo", "phantom", ("ultrasound",)),
        ("smoke", "local", ("histo",)),
    ]
    assert {(one.tasks, one.probes, one.policy) for one in made} == {(("busi",), ("knn",), "crop")}
    assert made[0].recipes == (listed[0], listed[2])
    (one,) = grid.asked(listed, replace(narrowed, runs=(key(twin(listed[1])),)))
    assert one.recipes == (listed[1],)
    (one,) = grid.asked(listed, replace(narrowed, modalities=("ultrasound",), runs=(key(listed[2])[:6],)))
    assert one.recipes == (listed[2],)
    with pytest.raises(ValueError, match="--modality or --runs leaves none"):
        grid.asked(listed, replace(narrowed, modalities=("histo",), runs=(key(listed[1]),)))


def test_images_of_ones_own_have_to_be_named():
    listed = [recipe(corpus=replace(CORPUS, name="folder-tiles"))]
    narrowed = Wanted(modalities=(), track="", pretexts=())
    with pytest.raises(DataError, match="corpus 'folder-tiles'; say where it lies, such as CORPUS=folder:"):
        grid.asked(listed, narrowed)
    assert grid.asked(listed, replace(narrowed, corpus="folder:/data/tiles"))[0].corpus == "folder:/data/tiles"


@pytest.mark.parametrize(
    "more", [["--track", "demo"], ["--pretext", "mae"], ["--seeds", "2"], ["--precision", "fp32"]], ids=lambda m: m[0]
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_a_grid_says_is_not_said_again(tmp_path, command, more):
    path = file(tmp_path, canonical(recipe()))
    places = ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, [command, "--grid", str(path), *more, *places])
    assert isinstance(done.exception, ValueError)
    assert f"{more[0]} has no say beside --grid" in str(done.exception)
    assert [one.name for one in tmp_path.iterdir()] == ["runs.jsonl"]


def test_jobs_of_a_cluster_are_given_the_grid(tmp_path, study, monkeypatch):
    path = file(tmp_path, canonical(recipe(corpus=study.pinned.corpus)))
    places = ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    given = ["run", "--grid", str(path), "--task", "phantom_local", "--launch", "slurm", *places]
    commands = []
    monkeypatch.setattr(slurm, "submit", lambda plan, given, _: commands.extend(slurm.commands(plan[1], given)) or [])
    CliRunner().invoke(app, given, catch_exceptions=False)
    command, labelled = map(" ".join, commands)
    made = recipe(corpus=study.pinned.corpus)
    assert f" --grid {path} " in command
    assert f" --runs {key(made)},{key(twin(made))} --stage pretrain" in command
    assert " --runs ceiling-" in labelled
    assert "--precision" not in command
