"""Kather texture 2016: sources from names, the class that no folds can carry, nested and strange folders."""

import shutil
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from benchmark import plan
from benchmark.probing import fitting as probing
from benchmark.study import Wanted, survey
from tasks import splits
from tasks.base import DataError, Folds
from tasks.histo.kather2016 import ANCHOR, TASK, TASKS
from tests.layouts import kather2016

PUBLISHED = TASKS[1]


def _sources(samples):
    """Class -> groups that hold it."""
    held = defaultdict(set)
    for sample in samples:
        held[TASK.classes[sample.label]].add(sample.group)
    return held


def test_kather2016_groups_by_source_and_leaves_the_empty_class_out(tmp_path):
    kather2016.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == kather2016.IMAGES - kather2016.EMPTY
    assert {sample.group for sample in samples} == {f"{number:02d}" for number in range(1, 11)}
    assert not any("EMPTY" in sample.id for sample in samples)
    assert all(TASK.classes[sample.label].upper() in sample.id for sample in samples)
    assert all(f"CRC-Prim-HE-{sample.group}" in sample.id for sample in samples)


def test_kather2016_has_every_other_class_in_enough_sources_for_its_folds(tmp_path):
    kather2016.write(tmp_path)
    samples = TASK.scan(tmp_path)
    held = _sources(samples)
    assert tuple(held) == TASK.classes
    assert min(map(len, held.values())) >= TASK.protocol.k
    divisions = splits.assignments(TASK, samples)
    assert len(divisions) == 15
    for division in divisions:
        sources = [{samples[i].group for i in part} for part in (division.train, division.val, division.test)]
        assert sum(map(len, sources)) == len(set.union(*sources)) == 10
        parts = (division.train, division.val, division.test)
        assert all({samples[i].label for i in part} == set(range(len(TASK.classes))) for part in parts)


def test_kather2016_is_planned_and_probed(tmp_path):
    kather2016.write(tmp_path)
    wanted = Wanted(modalities=("histo",), track="smoke", pretexts=("mae",), tasks=("kather2016",))
    wanted = replace(wanted, corpus="phantom")
    study = survey(wanted, "histo", tmp_path, tmp_path / "cache")
    found = study.tasks["kather2016"]
    assert plan.cells(plan.recipes(wanted, study, {})[0], study)
    x = np.random.default_rng(0).normal(size=(len(found.samples), 4)).astype(np.float32)
    x[:, 0] += [sample.label for sample in found.samples]
    for probe in ("linear", "knn", "efficiency", "fewshot"):
        asked = vars(probing.registry.load("probes", probe).Settings())
        question = probing.question(TASK, found.samples, found.divisions, read_pooled=lambda: x)
        fitted = probing.fit(probe, asked, 0, question)
        _, about, scored = probing.observed("c", "patches", TASK, found.samples, fitted, TASK.metric)
        assert (about["groups"], about["samples"], about["protocol"]) == (10, len(found.samples), "folds(5, 3)")
        assert all(np.isfinite(row["value"]) for row in scored)


def test_kather2016_with_the_empty_class_cannot_be_folded_by_source(tmp_path):
    kather2016.write(tmp_path)
    every = [s._replace(group=s.id.split("CRC-Prim-HE-")[1][:2]) for s in PUBLISHED.scan(tmp_path)]
    with pytest.raises(DataError, match=r"class 'empty' has 2 groups \(image\) of 26 images, fewer than the 5 folds"):
        splits.assignments(replace(PUBLISHED, protocol=Folds(k=5, repeats=3)), every)


def test_kather2016_published_has_eight_classes_and_each_image_its_own_group(tmp_path):
    kather2016.write(tmp_path)
    samples = PUBLISHED.scan(tmp_path)
    assert len(samples) == len({sample.group for sample in samples}) == kather2016.IMAGES
    assert {sample.label for sample in samples} == set(range(8))
    assert (PUBLISHED.group_kind, PUBLISHED.on_request, TASK.on_request) == ("image", True, False)
    (division,) = splits.assignments(PUBLISHED, samples)
    sources = [
        {samples[i].id.split("CRC-Prim-HE-")[1][:2] for i in part}
        for part in (division.train, division.val, division.test)
    ]
    assert set.intersection(*sources)  # the leak that the card states


def test_kather2016_reads_a_top_folder_nested_in_itself_alike(tmp_path):
    kather2016.write(tmp_path / "flat")
    kather2016.write(tmp_path / "nested" / ANCHOR)
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    samples = TASK.scan(flat)
    assert TASK.scan(nested) == TASK.scan(nested / ANCHOR) == samples
    np.testing.assert_array_equal(TASK.read(nested, samples[0], 8), TASK.read(flat, samples[0], 8))


def test_kather2016_refuses_strange_folders_and_names(tmp_path):
    kather2016.write(tmp_path)
    top = tmp_path / ANCHOR
    (top / "09_OTHER").mkdir()
    with pytest.raises(DataError, match=r"folder '09_OTHER' is not one of 01_TUMOR, .*move it elsewhere"):
        TASK.scan(tmp_path)
    (top / "09_OTHER").rename(top / "__MACOSX")
    path = next((top / "03_COMPLEX").iterdir())
    for name in ("1DA3_tile.tif_Row_1_Col_151.tif", "1DA3_CRC-Prim-HE-123.tif_Row_1_Col_151.tif"):
        path = path.rename(path.with_name(name))
        with pytest.raises(DataError, match=rf"{name}: the name is not like '17E8F_CRC-Prim-HE-02"):
            TASK.scan(tmp_path)
    path.unlink()
    shutil.rmtree(top / "07_ADIPOSE")
    with pytest.raises(DataError, match="no folder '07_ADIPOSE', found"):
        TASK.scan(tmp_path)
