"""From features to stored rows: conditions and nuisances are kept apart, and metrics are of the clean test set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import metrics, registry
from benchmark.parts import corruptions, subset
from benchmark.probes._base import Fitted, Rows
from benchmark.probing import fitting as probing
from benchmark.storage import schema
from benchmark.storage.scores import quantise
from leaderboards.boards import store
from tasks import get, splits
from tasks.base import DataError, Folds, Sample

TASK = get("histo", "phantom_local")
SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 4


def drawn() -> tuple[list[Sample], np.ndarray]:
    """240 samples of 120 groups, with features of which the first tells the label."""
    samples = [Sample(f"s{i:03d}", i // 2 % 2, f"g{i // 2:03d}", "", SPLITS[i // 4 % 12]) for i in range(240)]
    x = np.random.default_rng(0).normal(size=(240, 6)).astype(np.float32)
    x[:, 0] += [2.0 * sample.label for sample in samples]
    return samples, x


def asked(samples, x, task=TASK, divisions=None, **readers) -> probing.Question:
    """With features of nothing under every change."""
    readers = {"read_changed": lambda name, strength, index: np.zeros_like(x[index])} | readers
    return probing.question(task, samples, divisions, read_pooled=lambda: x, **readers)


def settings_of(probe: str, **changes) -> dict:
    return vars(registry.load("probes", probe).Settings()) | changes


def stored(probe: str, **changes):
    samples, x = drawn()
    found = probing.fit(probe, settings_of(probe, **changes), 0, asked(samples, x))
    return probing.observed("c", "patches", TASK, samples, found, TASK.metric)


def test_every_condition_is_stored_and_the_metric_is_their_mean_as_the_board_reads_them():
    tables, about, scored = stored("fewshot", shots=(1, 4), draws=3)
    rows = tables["predictions"].to_pandas()
    assert rows.groupby(["shots", "draw"]).size().tolist() == [80] * 6
    assert (about["samples"], about["groups"]) == (80, 40)
    seen = store.of_cell(tables["predictions"], "c", about["protocol"], Path("p"))
    for row in scored:
        again = metrics.fold_score(row["metric"], seen.label, seen.scores, seen.repeat, seen.fold)
        assert abs(again - row["value"]) < 1e-12
    auroc = next(row["value"] for row in scored if row["metric"] == "auroc")
    alone = [
        metrics.score("auroc", some["label"].to_numpy(), np.stack(some["scores"]))
        for _, some in rows.groupby(["shots", "draw"])
    ]
    assert abs(auroc - np.mean(alone)) < 1e-12


@pytest.mark.parametrize(
    ("halved", "said", "groups"), [(False, "folds(3, 2)", 120), (True, "folds(3, 2) of one half", 60)]
)
def test_folds_are_stored_with_their_number_and_whether_they_are_of_one_half(halved, said, groups):
    samples, x = drawn()
    task = replace(TASK, protocol=Folds(k=3, repeats=2, halved=halved))
    found = probing.fit("knn", settings_of("knn"), 0, asked(samples, x, task))
    tables, about, scored = probing.observed("c", "patches", task, samples, found, task.metric)
    assert about["protocol"] == said
    assert (about["groups"], about["samples"]) == (groups, 2 * groups)
    assert len(tables["predictions"]) == 2 * about["samples"]
    seen = store.of_cell(tables["predictions"], "c", about["protocol"], Path("p"))  # as the board reads them
    for row in scored:
        again = metrics.fold_score(row["metric"], seen.label, seen.scores, seen.repeat, seen.fold)
        assert abs(again - row["value"]) < 1e-12


def test_fractions_are_stored_with_their_grids():
    tables, _, _ = stored("efficiency", draws=2)
    rows, fits = tables["predictions"].to_pandas(), tables["fits"].to_pandas()
    assert rows.groupby(["fraction", "draw"]).ngroups == 5
    assert fits["selected"].sum() == 5


@pytest.mark.parametrize(
    ("probe", "suite"), [("robustness", corruptions.SUITES["histo"]), ("scale", corruptions.SCALES)]
)
def test_changes_are_stored_beside_the_clean_test_set_and_leave_its_numbers_alone(probe, suite, monkeypatch):
    monkeypatch.setattr(subset, "LIMIT", 20)
    samples, _ = drawn()
    tested = splits.assignments(TASK, samples)[0].test
    some = subset.subset([sample.group for sample in samples], tested)
    assert len(some) == 20
    tables, about, scored = stored(probe)
    plain = stored("linear")
    assert [row["value"] for row in scored] == [row["value"] for row in plain[2]]
    assert about == plain[1]
    rows = tables["predictions"].to_pandas()
    altered = rows[rows.corruption != ""]
    assert altered.groupby(["corruption", "strength"]).ngroups == 3 * len(suite)
    assert set(altered.corruption) == set(suite)
    for _, change in altered.groupby(["corruption", "strength"]):
        assert change["sample"].tolist() == [samples[i].id for i in some]
    assert len({tuple(scores) for scores in altered.scores}) == 1  # the same features, the same answer
    assert (rows.corruption == "").sum() == len(tested)


@pytest.mark.parametrize(("probe", "changes"), [("fewshot", {"shots": (1, 4), "draws": 3}), ("robustness", {})])
def test_predictions_are_the_rows_that_they_are_made_of(probe, changes):
    samples, x = drawn()
    found = probing.fit(probe, settings_of(probe, **changes), 0, asked(samples, x))
    rows = [
        {
            "cell": "c",
            "sample": samples[i].id,
            "group": samples[i].group,
            "label": samples[i].label,
            "scores": [float(s) for s in scores],
            "repeat": one.division.repeat,
            "fold": one.division.fold,
            "readout": "patches",
            "split_variant": one.division.variant,
            "fraction": one.fraction,
            "shots": one.shots,
            "draw": one.draw,
            "corruption": one.corruption,
            "strength": one.strength,
        }
        for one in found
        for i, scores in zip(one.index, quantise(one.scores), strict=True)
    ]
    tables, _, _ = probing.observed("c", "patches", TASK, samples, found, TASK.metric)
    assert tables["predictions"].equals(schema.table("predictions", rows))
    assert tables["predictions"].schema.equals(schema.TABLES["predictions"], check_metadata=True)


@pytest.mark.parametrize("name", ["attentive", "dense"])
def test_tokens_that_stay_in_their_file_give_the_same_answers(name, tmp_path):
    """Rows of a memory-mapped file in the order of the store, against an array in the order of the samples."""
    samples, _ = drawn()
    tokens = np.random.default_rng(0).normal(size=(300, 16, 8)).astype(np.float16)
    np.save(tmp_path / "tokens.npy", tokens)
    index = np.random.default_rng(1).permutation(300)[:240]
    masks = np.repeat(np.repeat(tokens[index, :, 0].reshape(240, 4, 4) > 0.5, 4, axis=1), 4, axis=2)
    changes = {"epochs": 1, "rates": (1e-3,)} if name == "attentive" else {"c": (1.0,)}
    read = Rows(np.load(tmp_path / "tokens.npy", mmap_mode="r"), index)
    (held,), (streamed,) = (
        probing.fit(
            name,
            settings_of(name, **changes),
            0,
            probing.question(TASK, samples, read_tokens=lambda x=x: x, read_masks=lambda: masks),
        )
        for x in (Rows(tokens[index], np.arange(240)), read)
    )
    assert np.array_equal(held.scores, streamed.scores)
    assert held.grid == streamed.grid


def test_features_that_are_not_finite_name_the_task_and_the_images():
    samples, x = drawn()
    x[[3, 7], 1] = np.nan, np.inf
    words = "phantom_local: features of 2 of 240 images are not finite, such as s003; mend the encoder"
    with pytest.raises(DataError, match=words):
        probing.fit("linear", settings_of("linear"), 0, asked(samples, x))


def test_answers_that_are_not_finite_name_probe_and_task(monkeypatch):
    def fit(train, val, settings, classes, seed):
        return Fitted(lambda x: np.full((len(x), classes), np.nan), [])

    monkeypatch.setattr(registry.load("probes", "linear"), "fit", fit)
    with pytest.raises(DataError, match="phantom_local: what the probe linear says of 80 of 80 images are not finite"):
        stored("linear")


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_a_test_part_of_one_class_has_undefined_metrics_and_is_no_crash(probe):
    samples, x = drawn()
    divisions = splits.assignments(TASK, samples)
    kept = [i for i in range(240) if samples[i].split != "test" or samples[i].label == 0]
    samples, x = [samples[i] for i in kept], x[kept]
    place = {i: at for at, i in enumerate(kept)}
    divisions = [
        division._replace(
            train=np.array([place[i] for i in division.train]),
            val=np.array([place[i] for i in division.val]),
            test=np.array([place[i] for i in division.test if i in place]),
        )
        for division in divisions
    ]
    found = probing.fit(probe, settings_of(probe), 0, asked(samples, x, divisions=divisions))
    _, _, scored = probing.observed("c", "patches", TASK, samples, found, TASK.metric)
    values = {row["metric"]: row["value"] for row in scored}
    assert np.isnan(values["auroc"])
    assert np.isfinite(values["balanced_accuracy"])
