"""What labels reach: who is learnt together, masked heads, folds, no test label, resume, and what is stored."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark import ceilings, grid, run, tracks
from benchmark.ceilings import Ceiling
from benchmark.encoders.encoder import Encoder
from benchmark.recipe import Runtime, key
from benchmark.storage import checkpoint, results, schema, seals
from benchmark.study import Study, TaskData, Wanted, validate
from benchmark.training import optimise, supervised
from leaderboards.audit.promote import Refused, promote
from leaderboards.audit.verify import verify
from tasks.base import Access, Fixed, Folds, Sample, Task, digest
from tests.benchmark.test_grid import recipe as grid_recipe
from tests.helpers.boards import rewrite
from tests.helpers.boards import store as hand_made

COUNT, SIDE = 144, 32
PARTS = ("train", "val", "test")


def picture(number: int) -> np.ndarray:
    """A noisy square: reddish or bluish by the last bit of its number, with a bright half or none by the next."""
    rng = np.random.default_rng(number)
    image = rng.integers(40, 80, (SIDE, SIDE, 3)).astype(np.uint8)
    image[..., 0 if number % 2 else 2] += 60
    image[SIDE // 2 :] += np.uint8(90 * (number // 2 % 2))
    return image


def read(data: Path, sample: Sample, side: int) -> np.ndarray:
    return picture(int(sample.id))


def made(name: str, bit: int, numbers: range = range(COUNT), **changes: object) -> TaskData:
    """A task over those pictures, two to a group, that asks for a bit of their numbers."""
    samples = [Sample(f"{i:03d}", i >> bit & 1, f"g{i // 4}", digest("picture", i), PARTS[i // 4 % 3]) for i in numbers]
    task = Task(
        name=name,
        modality="histo",
        title=name,
        question="Which?",
        classes=("no", "yes"),
        group_kind="patient",
        protocol=Fixed(published=True),
        metric="auroc",
        version=1,
        access=Access(home="-", licence="-", citation="-"),
        scan=lambda data: samples,
        read=read,
        policy="crop",
        images="pictures/1",
        family="pictures",
        independent=True,
        synthetic=True,
    )
    return TaskData(replace(task, **changes), samples)


def resplit(found: TaskData, to: dict[str, str]) -> TaskData:
    return TaskData(found.task, [sample._replace(split=to.get(sample.split, sample.split)) for sample in found.samples])


COLOUR, BRIGHT = made("colour", 0), made("half", 1)
SOME = made("half", 1, range(COUNT // 2))


def one(*tasks: TaskData, steps: int = 12, seed: int = 0) -> Ceiling:
    """The ceiling of tasks that are learnt together, on the encoder of the smoke track, for so many steps."""
    (family,) = ceilings.families(Study(modality="histo", pinned=None, tasks={t.task.name: t for t in tasks}))
    whole = Ceiling(family, ceilings.recipe(family, "smoke", seed))
    budget = (steps + 0.5) * whole.recipe.settings.batch * whole.image_flops
    return Ceiling(family, replace(whole.recipe, budget=budget))


def here(folder: Path, **changes: object) -> Runtime:
    return Runtime(data=folder, results=folder / "results", cache=folder / "cache", threads=1, **changes)


def opened(runtime: Runtime, *tasks: TaskData) -> run.Stores:
    study = Study(modality="histo", pinned=None, tasks={t.task.name: t for t in tasks})
    return run.open_stores(study, runtime, SIDE)[0]


def measured(ceiling: Ceiling, runtime: Runtime) -> list[str]:
    """What is said while it is trained and stored."""
    said: list[str] = []
    run.teach(ceiling, opened(runtime, *ceiling.family.tasks), runtime, said.append)
    return said


def said_of_test(root: Path) -> dict[str, list[list[float]]]:
    """{task: scores of its test images}"""
    cells = {row.cell: row.task for row in results.read(root, "ceilings").itertuples()}
    seen = results.read(root, "predictions")
    return {cells[cell]: [list(scores) for scores in rows.scores] for cell, rows in seen.groupby("cell")}


def test_a_label_that_is_not_there_counts_in_no_head():
    logits = [torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]] * 3)]
    labels = torch.tensor([[1, -1], [0, -1], [-1, 2]])
    first = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-2.0))) / 2
    second = np.log(np.exp(1.0) + 2)
    assert supervised.masked_loss(logits, labels).item() == pytest.approx((first + second) / 2)
    labels[2, 1] = -1
    assert supervised.masked_loss(logits, labels).item() == pytest.approx(first / 2)


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (BRIGHT, False),
        (SOME, False),
        (resplit(BRIGHT, {"val": "train", "train": "val"}), False),
        (resplit(BRIGHT, {"test": "train", "train": "test"}), True),
        (resplit(BRIGHT, {"test": "val", "val": "test"}), True),
        (made("half", 1, images="others/1"), True),
        (made("half", 1, policy="pad"), True),
        (made("half", 1, protocol=Folds(k=3, repeats=1)), True),
    ],
)
def test_tasks_are_learnt_together_where_images_are_shared_and_no_test_image_is_another_s_to_learn_from(other, apart):
    found = ceilings.families(Study(modality="histo", pinned=None, tasks={"colour": COLOUR, "half": other}))
    assert [family.heads for family in found] == ([["colour"], ["half"]] if apart else [["colour", "half"]])


def test_a_group_on_two_sides_keeps_tasks_apart_though_no_image_is_in_both():
    """Even pictures in one task and odd ones in the other, of the same groups, whose parts differ."""
    even = resplit(made("even", 1, range(0, COUNT, 2)), {"test": "train", "train": "test"})
    assert not {s.id for s in even.samples} & {s.id for s in made("odd", 1, range(1, COUNT, 2)).samples}
    assert not ceilings.together(even, made("odd", 1, range(1, COUNT, 2)))
    assert ceilings.together(made("even", 1, range(0, COUNT, 2)), made("odd", 1, range(1, COUNT, 2)))


def test_two_heads_learn_and_what_is_stored_says_how(tmp_path):
    ceiling, runtime = one(COLOUR, SOME, steps=60), here(tmp_path)
    began, ended = measured(ceiling, runtime)
    assert began.startswith("histo ceiling seed 0: colour, half: 48 labelled images, ")
    assert " on validation groups, mean of the heads, at " in ended
    rows = results.read(runtime.results, "ceilings")
    value = rows[rows.headline].set_index("task").value
    assert value["colour"] > 0.9
    assert value["half"] > 0.9
    for row in rows.to_dict("records"):
        assert json.loads(row["heads"]) == ["colour", "half"]
        assert (row["family"], row["track"], row["seed"], row["pixels"]) == ("pictures/1", "smoke", 0, 32)
        assert (row["steps"], row["images_seen"], row["labels"], row["label_groups"]) == (60, 3840, 48, 12)
        assert row["realised_flops"] == 3840 * ceiling.image_flops <= row["budget_flops"]
        assert (
            row["encoder"]
            == '{"cls":true,"depth":2,"heads":2,"patch":8,"pixels":32,"registers":0,"trunk":"common","width":64}'
        )
        assert row["protocol"] == "published"
    assert rows.groupby("task").samples.first().to_dict() == {"colour": 48, "half": 24}
    fits = results.read(runtime.results, "fits")
    shares = [json.loads(text)["share"] for text in fits.settings]
    assert sorted(set(shares)) == pytest.approx([k / 10 for k in range(1, 11)])
    best = fits.assign(share=shares).groupby("share").score.mean()
    assert rows.chosen.unique() == pytest.approx([best.index[best.argmax()]])
    assert not (runtime.cache / "checkpoints").exists() or not list((runtime.cache / "checkpoints").iterdir())


def test_the_best_moment_answers_for_the_test_images(tmp_path, monkeypatch):
    """Whatever is learnt after the moment that validation likes best."""
    liked = iter([[0.6, 0.6], [0.9, 0.7], [0.7, 0.9], *[[0.5, 0.5]] * 7])
    monkeypatch.setattr(supervised, "scores", lambda *_: next(liked))
    kept, keep = [], supervised.Model.keep
    monkeypatch.setattr(supervised.Model, "keep", lambda model: kept.append(1) or keep(model))
    ceiling, runtime = one(COLOUR, BRIGHT), here(tmp_path)
    measured(ceiling, runtime)
    assert len(kept) == 2
    assert set(results.read(runtime.results, "ceilings").chosen) == {
        3 / 12
    }  # the third of twelve steps is the second look


def test_no_test_label_enters(tmp_path):
    measured(one(COLOUR, BRIGHT), here(tmp_path / "true"))
    turned = [
        TaskData(t.task, [s._replace(label=1 - s.label) if s.split == "test" else s for s in t.samples])
        for t in (COLOUR, BRIGHT)
    ]
    measured(one(*turned), here(tmp_path / "turned"))
    assert said_of_test(tmp_path / "true" / "results") == said_of_test(tmp_path / "turned" / "results")
    values = [results.read(tmp_path / name / "results", "ceilings") for name in ("true", "turned")]
    first, second = (rows[rows.metric == "auroc"].sort_values("task").value.to_numpy() for rows in values)
    np.testing.assert_allclose(first, 1 - second)


class Killed(Exception):
    pass


def test_it_goes_on_where_it_was_killed_and_does_nothing_twice(tmp_path, monkeypatch):
    measured(one(COLOUR, BRIGHT), here(tmp_path / "whole"))

    def save_and_die(folder, step, *rest):
        keep(folder, step, *rest)
        if step == 7:
            raise Killed

    keep = checkpoint.save
    ceiling, part = one(COLOUR, BRIGHT), here(tmp_path / "part", checkpoint_seconds=0.0)
    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(Killed):
        measured(ceiling, part)
    monkeypatch.setattr(checkpoint, "save", keep)
    assert not ceiling.stored(part.results)
    measured(ceiling, part)
    assert said_of_test(part.results) == said_of_test(tmp_path / "whole" / "results")
    before = {path: path.stat().st_mtime_ns for path in part.results.rglob("*")}
    assert measured(ceiling, part) == []
    assert {path: path.stat().st_mtime_ns for path in part.results.rglob("*")} == before
    assert list((part.cache / "checkpoints").iterdir()) == []


def test_folds_get_a_model_each_and_only_the_first_repeat(tmp_path):
    ceiling, runtime = one(made("colour", 0, protocol=Folds(k=3, repeats=2)), steps=10), here(tmp_path)
    assert ceiling.flops == 3 * 10 * 64 * ceiling.image_flops
    measured(ceiling, runtime)
    seen, rows = (results.read(runtime.results, name) for name in ("predictions", "ceilings"))
    assert sorted(seen["sample"]) == [f"{i:03d}" for i in range(COUNT)]
    assert set(zip(seen.repeat, seen.fold, strict=True)) == {(0, 0), (0, 1), (0, 2)}
    assert set(rows.protocol) == {"folds(3, 1)"}
    assert set(rows.labels) == {48}  # of three folds one to test, one to choose
    assert not verify(runtime.results).problems


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    runtime = here(tmp_path_factory.mktemp("stored"))
    measured(one(COLOUR, BRIGHT), runtime)
    return runtime.results


def test_verify_recomputes_a_ceiling_and_names_what_was_altered(stored, tmp_path):
    root = Path(shutil.copytree(stored, tmp_path / "results"))
    report = verify(root)
    assert (report.problems, report.metrics) == ((), 14)
    path = results.files(root, "ceilings")[0]
    metric = pq.read_table(path)["metric"][0].as_py()
    rewrite(path, lambda rows: rows[0].update(value=rows[0]["value"] + 1e-6))
    assert (path, metric) in {(found.file, found.what) for found in verify(root).problems}
    rewrite(path, lambda rows: rows[0].update(labels=7))
    assert f"labels of {path.parent.name}" in " ".join(found.what for found in verify(root).problems)


def test_ceilings_are_promoted_with_the_runs_of_their_track_and_tasks(stored, tmp_path):
    local, published = hand_made(tmp_path / "local", pretexts=("mae",), seeds=(0,)), tmp_path / "published"
    cell = results.read(local, "cells").iloc[0]
    for number, changes in enumerate(({}, {"track": "laptop"}, {"data": "e" * 12}), 1):
        source, this = results.files(stored, "ceilings")[0], f"{number:012x}"
        about = {name: cell[name] for name in ("modality", "task", "data", "track")} | {
            "commit": "0123abc",
            "dirty": False,
        }
        rows = [row | about | changes | {"cell": this} for row in pq.read_table(source).to_pylist()]
        rows = [{k: v for k, v in row.items() if not k.endswith("_sha256")} for row in rows]
        seen = pq.read_table(source.with_name("predictions.parquet")).to_pylist()
        tables = {"predictions": schema.table("predictions", [row | {"cell": this} for row in seen])}
        tables["fits"] = schema.table("fits", [])
        results.write(results.ceiling_directory(local, "ultrasound", this), tables, rows, sealed="ceilings")
    promote(local, published, {})
    assert set(results.read(published, "ceilings").cell) == {f"{1:012x}"}
    assert verify(published).problems == ()
    path = results.ceiling_directory(local, "ultrasound", f"{1:012x}") / "ceilings.parquet"
    rewrite(path, lambda rows: [row.update(dirty=True) for row in rows])
    (path.parent / seals.FILE).unlink()
    with pytest.raises(Refused, match=r"1 ceilings were made from code with local changes \(000000000001\)"):
        promote(local, tmp_path / "other", {})


def asked(**more: object) -> Wanted:
    return Wanted(modalities=("histo",), track="smoke", pretexts=("mae",), **more)


def test_what_is_missing_follows_the_track_and_what_is_asked_for(tmp_path):
    study = Study(modality="histo", pinned=None, tasks={"colour": COLOUR, "half": BRIGHT})

    def names(**more: object) -> list[str]:
        return [one.name for one in ceilings.missing(asked(**more), study, tmp_path / "none")]

    (first,) = names()
    assert len(names(ceilings=2)) == 2
    assert names(ceilings=2)[0] == first
    assert names(ceilings=0) == names(probes=("dense",)) == names(runs=("1386f7",)) == []
    assert names(runs=("1386f7", first[:12])) == names(runs=("ceiling-",)) == names(probes=("dense", "knn")) == [first]
    with pytest.raises(ValueError, match="CEILINGS must be at least 0, got -1"):
        validate(asked(ceilings=-1))


def test_an_images_track_has_the_budget_of_its_base_track():
    family = one(COLOUR).family
    base, matched = (ceilings.recipe(family, name, 0) for name in ("demo", "demo-images"))
    assert base.budget == matched.budget == tracks.get("demo").budget
    assert replace(matched, track="demo") == base


def test_the_model_starts_from_the_weights_of_a_twin(tmp_path):
    ceiling, runtime = one(COLOUR, seed=3), here(tmp_path)
    pool = supervised.pool_images(ceiling.family, list(opened(runtime, COLOUR).values()))
    images, _ = pool.part([COLOUR.divisions[0].train])
    started = optimise.build_encoder(ceiling.recipe, images)
    for name, value in Encoder(ceiling.recipe.encoder, seed=3).named_parameters():
        assert torch.equal(value, dict(started.named_parameters())[name])


def test_flops_equal_the_counter(tmp_path):
    ceiling, runtime = one(COLOUR, BRIGHT), here(tmp_path)
    pool = supervised.pool_images(ceiling.family, list(opened(runtime, COLOUR, BRIGHT).values()))
    encoder = optimise.build_encoder(ceiling.recipe, pool.images)
    model = supervised.Model(ceiling.recipe.settings, encoder, "histo", [2, 2], 0)
    views = {"images": torch.rand(4, 3, 32, 32), "labels": torch.zeros((4, 2), dtype=torch.int64)}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(views, 0.5)
    assert 3 * counter.get_total_flops() == pytest.approx(4 * ceiling.image_flops)


def test_a_loss_that_is_not_finite_is_said_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "masked_loss", lambda logits, labels: logits[0].sum() * float("nan"))
    with pytest.raises(ValueError, match=r"the loss is nan at step 2; CEILINGS=0 leaves ceilings out"):
        measured(one(COLOUR), here(tmp_path))


def test_a_ceiling_is_named_beside_a_grid():
    """It belongs to a track and a corpus, so the grid is kept whole, and none of its runs is computed."""
    made = grid_recipe()
    narrowed = Wanted(modalities=(), track="", pretexts=(), runs=("ceiling-0123",))
    (wanted,) = grid.asked([made], narrowed)
    assert (wanted.recipes, wanted.runs) == ((made,), ("ceiling-0123",))
    assert not key(made).startswith(wanted.runs)
