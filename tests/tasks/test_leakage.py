"""The passport of a dataset: what its parts share is found, counted and named, and what was not looked for is said."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tasks
from benchmark import corpus
from benchmark.probing import contamination
from benchmark.recipe import Runtime
from benchmark.storage import passports, results, schema
from benchmark.study import Study, TaskData
from leaderboards.audit import directory
from tasks import duplicates, leakage, splits
from tasks.base import Fixed, Folds
from tasks.ultrasound.busi import TASK as BUSI
from tasks.ultrasound.phantom_local import TASK as PHANTOM
from tests.layouts import breakhis, busi

ALONE = replace(BUSI, near=False)  # each image its own group, so that copies cross the split


@pytest.fixture
def data(tmp_path):
    busi.write(tmp_path / "data")
    (tmp_path / "data" / "groups.csv").unlink()
    return tmp_path / "data"


def _copy(data, samples, task, near: bool) -> tuple[str, str]:
    """Make the first test image a copy of the first training image; their ids."""
    (division,) = splits.assignments(task, samples)
    source, target = samples[division.train[0]].id, samples[division.test[0]].id
    if near:
        image = np.asarray(Image.open(data / source).convert("RGB").resize((30, 30)))
        Image.fromarray(image).resize((240, 240)).save(data / source)
        Image.fromarray(image).resize((239, 240)).save(data / target)
    else:
        shutil.copy(data / source, data / target)
    return source, target


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_copy_across_the_split_is_counted_and_named(data, kind):
    source, target = _copy(data, ALONE.scan(data), ALONE, near=kind == "near")
    samples = [sample._replace(group=sample.id) for sample in ALONE.scan(data)]
    rows = {(row.between, row.kind): row for row in leakage.passport(ALONE, data, samples, data.parent / "cache")}
    assert {between for between, _ in rows} == {"train and test", "val and test", "train and val"}
    assert {kind for _, kind in rows} == {"exact", "group", "near"}
    found = rows["train and test", kind]
    assert (found.count, found.examples) == (1, (f"{target} = {source}",))
    assert rows["train and test", "group"].count == rows["train and val", "near"].count == 0
    assert leakage.verdict(rows.values(), independent=True) == "warn"


def test_a_clean_dataset_passes_and_what_was_not_looked_for_is_unknown(data, monkeypatch):
    samples = ALONE.scan(data)
    assert leakage.verdict(leakage.passport(ALONE, data, samples, data.parent / "cache"), independent=True) == "pass"
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 1)
    rows = leakage.passport(ALONE, data, samples, data.parent / "cache")
    assert {row.count for row in rows if row.kind == "near"} == {None}
    assert leakage.verdict(rows, independent=True) == "unknown"


def test_a_published_split_that_leaks_is_reported_and_its_clean_variant_is_not(data):
    parts = ("train", "train", "val", "test")
    samples = [sample._replace(split=parts[i % 4], group=f"g{i // 4 % 9}") for i, sample in enumerate(ALONE.scan(data))]
    for crossing, verdict in (("keep", "warn"), ("remove", "pass")):
        mended = [s if s.group == "g0" else s._replace(group=s.id) for s in samples]
        task = replace(ALONE, protocol=Fixed(published=True, crossing=crossing))
        rows = leakage.passport(task, data, mended, data.parent / "cache")
        groups = {row.between: row.count for row in rows if row.kind == "group"}
        assert groups["train and test"] == (1 if crossing == "keep" else 0)
        assert leakage.verdict(rows, independent=True) == verdict


def test_by_folds_any_two_groups_may_be_divided(data):
    task = replace(ALONE, protocol=Folds(k=3, repeats=1))
    top = data / "Dataset_BUSI_with_GT"
    shutil.copy(top / "benign" / "benign (1).png", top / "benign" / "benign (2).png")
    shutil.copy(top / "benign" / "benign (3).png", top / "benign" / "benign (4).png")
    names = {f"benign ({number}).png": "together" for number in (3, 4)}
    samples = [s._replace(group=names.get(s.id.rpartition("/")[2], s.id)) for s in task.scan(data)]
    rows = leakage.passport(task, data, samples, data.parent / "cache")
    assert {(row.between, row.kind, row.count) for row in rows} == {("groups", "exact", 1), ("groups", "near", 1)}


def test_near_duplicates_in_a_corpus_of_another_dataset_are_found(data, tmp_path):
    busi.write(tmp_path / "other", seed=5)
    samples, others = ALONE.scan(data), ALONE.scan(tmp_path / "other")
    Image.open(data / samples[3].id).convert("RGB").resize((200, 201)).save(data / samples[3].id)
    Image.open(data / samples[3].id).convert("RGB").save(data / "copy.png")
    shutil.copytree(tmp_path / "other" / "Dataset_BUSI_with_GT", data / "more" / "Dataset_BUSI_with_GT")
    shutil.move(data / "copy.png", data / "more" / others[5].id)
    held = [sample._replace(id=f"more/{sample.id}") for sample in others]
    source = replace(ALONE, read=_read, images="other 1")
    row = leakage.overlap_near([(source, held, held)], ALONE, samples, samples, data, data.parent / "cache")
    assert (row.kind, row.count, row.between) == ("near", 1, "corpus and test")
    assert row.examples == (f"{samples[3].id} = more/{others[5].id}",)


def test_what_other_datasets_share_is_found_and_warns_of_nothing(data, tmp_path):
    busi.write(tmp_path / "other", seed=5)
    samples, others = ALONE.scan(data), ALONE.scan(tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "Dataset_BUSI_with_GT", data / "more" / "Dataset_BUSI_with_GT")
    Image.open(data / samples[3].id).convert("RGB").resize((200, 201)).save(data / samples[3].id)
    shutil.copy(data / samples[3].id, data / "more" / others[5].id)
    held = [sample._replace(id=f"more/{sample.id}") for sample in others]
    held[7] = held[7]._replace(digest=samples[8].digest)
    other = replace(ALONE, name="another", family="another", read=_read, images="other 1")
    relative = replace(other, name="relative", family=ALONE.family)
    runtime = Runtime(data=data, results=data.parent / "results", cache=data.parent / "cache")
    rows = passports.across(ALONE, samples, [(other, held), (relative, held)], runtime)
    assert [(row.between, row.kind, row.count) for row in rows] == [
        ("another and this set", "exact", 1),
        ("another and this set", "near", 1),
    ]
    assert rows[1].examples == (f"{samples[3].id} = {held[5].id}",)
    stored = results.read(data.parent / "results", "leakage")
    assert set(stored["between"]) == {"another and this set"}
    assert passports.across(ALONE, samples, [(other, held), (relative, held)], runtime) == rows


def _read(data, sample, pixels):
    return ALONE.read(data / "more", sample._replace(id=sample.id.removeprefix("more/")), pixels)


def test_simulated_patients_are_not_compared_by_looks(tmp_path):
    rows = leakage.passport(PHANTOM, tmp_path, PHANTOM.scan(tmp_path), tmp_path / "cache")
    assert {row.kind for row in rows} == {"exact", "group"}
    assert leakage.verdict(rows, independent=True) == "pass"
    assert not (tmp_path / "cache").exists()


def test_a_passport_is_stored_once_and_read_back(data, monkeypatch):
    samples = ALONE.scan(data)
    runtime = Runtime(data=data, results=data.parent / "results", cache=data.parent / "cache")
    made = passports.within(ALONE, samples, runtime)
    monkeypatch.setattr(leakage, "passport", None)
    assert passports.within(ALONE, samples, runtime) == made
    rows = results.read(data.parent / "results", "leakage")
    assert set(rows["task"]) == {"busi"}
    assert set(rows["corpus_digest"]) == {""}


def test_how_large_images_are_here_is_stored_with_the_size_of_their_release(data):
    samples = ALONE.scan(data)
    for sample in samples[:30]:
        Image.open(data / sample.id).resize((90, 60)).save(data / sample.id)
    Image.open(data / samples[0].id).resize((50, 200)).save(data / samples[0].id)
    runtime = Runtime(data=data, results=data.parent / "results", cache=data.parent / "cache")
    sides = [min(Image.open(data / sample.id).size) for sample in samples]
    row = passports.image_sizes(replace(ALONE, side=500), samples, runtime)
    assert (row["images"], row["released"]) == (len(samples), 500)
    assert (row["low"], row["median"], row["high"]) == (min(sides), 60, max(sides))
    assert passports.image_sizes(replace(ALONE, side=None), samples, runtime) == row  # stored once


def test_a_patient_at_another_magnification_is_the_same_patient_and_in_another_dataset_is_not(tmp_path):
    breakhis.write(tmp_path / "data", scales=(40, 100))
    runtime = Runtime(data=tmp_path / "data", results=tmp_path / "results", cache=tmp_path / "cache")
    held, task = tasks.get("histo", "breakhis_40x_4class"), tasks.get("histo", "breakhis_100x")
    samples, others = task.scan(runtime.data), held.scan(runtime.data)
    train = [others[i] for i in splits.train_part(held, others)]
    shared = sum(sample.group in {other.group for other in train} for sample in samples)
    assert 0 < shared < len(samples)
    for family, count in (("breakhis", shared), ("another", 0)):
        member = corpus.Member(replace(held, family=family), others, train)
        study = Study(modality="histo", pinned=corpus.Pinned(None, [member]))
        rows = contamination.of_corpus(study, TaskData(task, samples), samples, runtime)
        assert [row.count for row in rows if (row.kind, row.between) == ("group", "corpus and test")] == [count]


def test_where_no_patient_is_known_nothing_passes_and_warnings_stay():
    clean, found, unseen = (leakage.Overlap("exact", count, ()) for count in (0, 1, None))
    for rows, known, unknown in (
        ([clean], "pass", "unknown"),
        ([clean, found], "warn", "warn"),
        ([unseen], *2 * ("unknown",)),
    ):
        assert leakage.verdict(rows, independent=True) == known
        assert leakage.verdict(rows, independent=False) == unknown


def test_verify_holds_a_cell_to_the_verdict_of_groups_that_are_not_patients(tmp_path):
    about = {"corpus_digest": "d", "task": "t", "data": "s"}
    row = about | {"between": "train and test", "kind": "exact", "count": 0, "examples": "[]"}
    table = schema.table("leakage", [row])
    for independent, right, wrong in ((True, "pass", "unknown"), (False, "unknown", "pass")):
        for stored in (right, wrong):
            cells = {"c": [about | {"independent": independent, "leakage": stored}]}
            seen = directory.Examined()
            problems = list(directory._leakage(seen, tmp_path / "cells.parquet", cells, table))
            assert [(p.stored, p.recomputed) for p in problems] == [(wrong, right)] * (stored == wrong)
