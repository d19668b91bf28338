"""From features to stored rows: conditions and nuisances are kept apart, and metrics are of the clean test set."""

from pathlib import Path

import numpy as np

from benchmark import metrics, probing, registry
from leaderboards import store
from tasks import get, splits
from tasks.base import Sample

TASK = get("histo", "phantom_local")
SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 4


def drawn() -> tuple[list[Sample], np.ndarray]:
    """240 samples of 120 groups, with features of which the first tells the label."""
    samples = [Sample(f"s{i:03d}", i // 2 % 2, f"g{i // 2:03d}", "", SPLITS[i // 4 % 12]) for i in range(240)]
    x = np.random.default_rng(0).normal(size=(240, 6)).astype(np.float32)
    x[:, 0] += [2.0 * sample.label for sample in samples]
    return samples, x


def stored(probe: str, altered=(), **changes):
    samples, x = drawn()
    settings = vars(registry.load("probes", probe).Settings()) | changes
    divisions = splits.assignments(TASK, samples)
    found = probing.fit(probe, settings, 0, TASK, samples, x, divisions, altered)
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


def test_fractions_are_stored_with_their_grids():
    tables, _, _ = stored("efficiency", draws=2)
    rows, fits = tables["predictions"].to_pandas(), tables["fits"].to_pandas()
    assert rows.groupby(["fraction", "draw"]).ngroups == 5
    assert fits["selected"].sum() == 5


def test_nuisances_are_stored_beside_the_clean_test_set_and_leave_its_numbers_alone():
    samples, x = drawn()
    tested = splits.assignments(TASK, samples)[0].test
    some = tested[:20]
    worse = probing.Altered("blur", 2, some, np.zeros_like(x[some]))
    tables, about, scored = stored("robustness", altered=(worse,))
    plain = stored("linear")
    assert [row["value"] for row in scored] == [row["value"] for row in plain[2]]
    assert about == plain[1]
    rows = tables["predictions"].to_pandas()
    altered = rows[rows.corruption == "blur"]
    assert set(altered["sample"]) == {samples[i].id for i in some}
    assert set(altered.strength) == {2}
    assert len({tuple(scores) for scores in altered.scores}) == 1  # the same features, the same answer
    assert (rows.corruption == "").sum() == len(tested)
