"""`make regression`: a number that moved is named, with by how much, against what, and which version to bump."""

import json

import pytest

from benchmark import registry
from benchmark.lab import goldens, regression, smoke
from benchmark.parts import losses


@pytest.mark.parametrize("name", registry.names("pretexts"))
def test_golden_micro_run(name):
    assert [str(one) for one in goldens.compare(name, goldens.losses(name))] == []


def test_a_loss_whose_constant_changed_is_named_with_the_version_to_bump(monkeypatch):
    whole = losses.normalise_patches
    monkeypatch.setattr(losses, "normalise_patches", lambda patches, floor: whole(patches, floor + 1e-4))
    moved = goldens.compare("mae", goldens.losses("mae"))
    before = json.loads(goldens.FILE.read_text())["mae"]["losses"][0]
    assert len(moved) == goldens.STEPS
    assert str(moved[0]).startswith(f"golden mae, loss of step 0: stored {before:.10g}, now ")
    assert "if it was meant, bump VERSION in benchmark/pretexts/mae.py, or ENGINE" in str(moved[0])


def test_a_golden_of_another_version_is_not_compared(monkeypatch):
    monkeypatch.setattr(goldens, "version", lambda pretext: "9.9")
    with pytest.raises(ValueError, match=r"goldens\.json: mae is written down in version .*, the code is in 9\.9"):
        goldens.compare("mae", [1.0] * goldens.STEPS)


@pytest.fixture(scope="module")
def table():
    return smoke.stored()


@pytest.fixture
def again(table):
    """The stored numbers of the first seed, as if they were trained again."""
    return table.assign(seed=0, value=[values[0] for values in table["values"]])[[*smoke.QUESTION, "seed", "value"]]


def test_every_pretext_of_both_modalities_is_stored_with_a_spread_of_three_seeds(table):
    assert set(map(tuple, table[["modality", "pretext"]].to_numpy())) == {
        (modality, name) for modality in ("histo", "ultrasound") for name in registry.names("pretexts")
    }
    assert {len(values) for values in table["values"]} == {smoke.SEEDS}
    assert table["tolerance"].between(0.004, 0.008).all()
    made = json.loads(smoke.FILE.read_text())["made"]
    assert {"command", "machine", "commit", "environment", "seeds"} <= set(made)


def test_the_same_numbers_moved_nowhere(table, again):
    assert smoke.compare(again, table) == (len(table), [], [])


@pytest.mark.parametrize(
    ("which", "bump"),
    [
        ("pretext == 'mae' and not twin", "VERSION in benchmark/pretexts/mae.py"),
        ("probe == 'linear'", "VERSION in benchmark/probes/linear.py"),
        ("modality == 'histo' and task == 'phantom_local'", "version of phantom_local in tasks/histo"),
        ("modality == modality", "ENGINE in benchmark/recipe.py"),
    ],
)
def test_a_number_that_moved_is_named_with_its_tolerance_and_version(table, again, which, bump):
    again.loc[again.query(which).index, "value"] += 0.2
    found = smoke.compare(again, table)
    assert len(found.moved) == len(again.query(which))
    assert {one.bump for one in found.moved} == {bump}
    assert ": moved by +0.2, tolerance 0.0" in str(found.moved[0])
    assert str(found.moved[0]).startswith("smoke ")


def test_less_than_the_spread_of_seeds_is_no_move_and_an_undefined_number_is(table, again):
    again["value"] += 0.5 * table["tolerance"]
    assert smoke.compare(again, table).moved == []
    again.loc[0, "value"] = float("nan")
    assert len(smoke.compare(again, table).moved) == 1


def test_numbers_of_another_version_are_not_compared_and_that_is_a_difference(table, again):
    found = smoke.compare(again.assign(probe_version=99), table)
    assert found.compared == 0
    assert [note.split(" numbers ")[1].split(":")[0] for note in found.notes] == [
        "are not stored",
        "were not computed again",
    ]
    assert "RECORD=1" in found.notes[0]


def test_the_command_says_few_sentences_and_counts_all(monkeypatch, tmp_path, table, again):
    again["value"] += 0.2
    monkeypatch.setattr(registry, "names", lambda kind: ("mae",))
    monkeypatch.setattr(goldens, "losses", lambda name: [0.0] * goldens.STEPS)
    monkeypatch.setattr(smoke, "train", lambda *_, **__: again)
    said = []
    assert regression.check(tmp_path, said.append) == goldens.STEPS + len(table)
    lines = "\n".join(said).splitlines()
    assert len(lines) == 2 * (regression.SHOWN + 2)
    assert lines[-1] == f"{len(table)} numbers of the smoke track computed again, {len(table)} moved"
    assert lines[regression.SHOWN] == "... and 1 more of them"
