"""What every task of the registry keeps to, found by folder scan, and the registry itself."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

import tasks
from tasks import splits
from tasks.base import DataError, Folds, NoData, identity

ALL = [(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]
READ = 6  # images read of each task
PIXELS = 32


@pytest.fixture(scope="module", params=ALL, ids=["/".join(pair) for pair in ALL])
def found(request, tmp_path_factory):
    """A task, a data folder that holds its layout (empty for a simulated one), and its samples."""
    task = tasks.get(*request.param)
    data = tmp_path_factory.mktemp(task.name)
    if not task.synthetic:
        importlib.import_module(f"tests.layouts.{task.name}").write(data)
    return task, data, task.scan(data)


@pytest.mark.parametrize(("modality", "name"), ALL)
def test_a_task_is_called_like_its_file_and_folder(modality, name):
    task = tasks.get(modality, name)
    assert (task.modality, task.name) == (modality, name)
    assert len(set(task.classes)) == len(task.classes) >= 2
    assert all(isinstance(text, str) and text for text in (*task.classes, task.title, task.question, task.group_kind))
    assert all((task.policy, task.images, task.access.home, task.access.licence, task.access.citation))
    assert task.version >= 1
    if task.synthetic:
        assert "simulated" in task.group_kind


def test_scan_gives_unique_samples_in_a_stable_order(found):
    task, data, samples = found
    assert samples == task.scan(data)
    assert len({sample.id for sample in samples}) == len(samples) > 0
    assert {sample.label for sample in samples} == set(range(len(task.classes)))
    for sample in samples:
        assert sample.group
        assert len(sample.digest) == 64
        assert not sample.id.startswith("/")
        assert "\\" not in sample.id
        int(sample.digest, 16)
    assert identity(task, samples) == identity(task, samples[::-1])


def test_read_gives_square_images(found):
    task, data, samples = found
    for sample in samples[:: max(1, len(samples) // READ)][:READ]:
        image = task.read(data, sample, PIXELS)
        assert image.dtype == np.uint8
        assert image.shape == (PIXELS, PIXELS, 3)
        np.testing.assert_array_equal(image, task.read(data, sample, PIXELS))


def test_no_group_is_on_two_sides(found):
    task, _, samples = found
    divisions = splits.assignments(task, samples)
    assert len(divisions) == (task.protocol.k * task.protocol.repeats if isinstance(task.protocol, Folds) else 1)
    for division in divisions:
        parts = (division.train, division.val, division.test)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(samples)))
        train, val, test = ({samples[i].group for i in part} for part in parts)
        assert min(len(train), len(val), len(test)) > 0
        assert len(train) + len(val) + len(test) == len(train | val | test)


def test_an_empty_data_folder_is_no_data_with_the_remedy(found, tmp_path):
    task, _, _ = found
    if task.synthetic:
        assert task.scan(tmp_path)
    else:
        with pytest.raises(NoData, match=f"make data TASK={task.name}"):
            task.scan(tmp_path)
        with pytest.raises(DataError):
            task.scan(tmp_path / "not there")


@pytest.mark.parametrize("modality", tasks.modalities())
def test_corpora_name_tasks_that_are_not_evaluated_by_folds(modality):
    corpora = importlib.import_module(f"tasks.{modality}").CORPORA
    assert {"phantom", "open"} <= set(corpora)
    for members in corpora.values():
        for name in members:
            assert not isinstance(tasks.get(modality, name).protocol, Folds)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'busi'"):
        tasks.get("ultrasound", "bussi")
    with pytest.raises(ValueError, match="did you mean 'histo'"):
        tasks.names("histology")


def test_tasks_import_nothing_heavy():
    modules = [f"tasks.{modality}.{name}" for modality, name in ALL]
    modules += ["tasks.splits", "tasks.store", "tasks.files", "tasks.leakage"]
    code = (
        "import importlib, json, sys; list(map(importlib.import_module, json.loads(sys.argv[1]))); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, json.dumps(modules)], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in ran.stdout.split()}
    assert not loaded & {"torch", "benchmark", "datasets", "sklearn", "pandas", "pyarrow"}
