"""What every reader of a native layout keeps to, whatever else lies in the folders and whatever may not be read."""

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

import tasks
from tasks import store
from tasks.base import DataError, NoData, Task
from tasks.reading import layout
from tests.helpers.fuzz import LAYOUTS
from tests.helpers.permissions import barred


def native(name: str) -> Task:
    modality = next(m for m in tasks.modalities() if importlib.util.find_spec(f"tasks.{m}.{name}"))
    module = importlib.import_module(f"tasks.{modality}.{name}")
    return module.TASKS[0] if hasattr(module, "TASKS") else module.TASK


def forget(task: Task) -> None:
    """Clear what readers remember of folders and files that they have seen."""
    module = sys.modules[getattr(task.scan, "func", task.scan).__module__]
    for function in [layout.find_top, *vars(module).values()]:
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture(params=sorted(LAYOUTS))
def dataset(request, tmp_path):
    """A task, DATA, its samples, and a file that is one of them; None for datasets in containers."""
    if request.param == "pocus":
        pytest.importorskip("av")
    data = tmp_path / "data"
    data.mkdir()
    importlib.import_module(f"tests.layouts.{request.param}").write(data)
    task = native(request.param)
    samples = task.scan(data)
    every = {path.relative_to(data).as_posix(): path for path in sorted(data.rglob("*")) if path.is_file()}
    plain = [sample.id for sample in samples if "#" not in sample.id]
    name = next((name for name in every if plain and name.endswith(plain[0])), None)
    return task, data, samples, every[name] if name else None


def images(dataset) -> Path:
    path = dataset[-1]
    if path is None:
        pytest.skip("its images lie in a container")
    return path


def test_hidden_copies_are_not_read(dataset):
    path = images(dataset)
    task, data, samples, _ = dataset
    for folder in (path.parent / ".ipynb_checkpoints", path.parent / "@eaDir" / path.name):
        folder.mkdir(parents=True)
        shutil.copy(path, folder / path.name)
    shutil.copy(path, path.with_name(f"._{path.name}"))
    assert task.scan(data) == samples


def test_a_name_that_is_not_utf_8_is_named(dataset):
    path = images(dataset)
    task, data, *_ = dataset
    path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"\xe9" + os.fsencode(path.suffix)))
    with pytest.raises(DataError, match=r"\\xe9.*: its name is not UTF-8.*rename it"):
        task.scan(data)


def test_an_image_in_another_format_is_read_or_named(dataset):
    """It is not left out in silence."""
    path = images(dataset)
    task, data, *_ = dataset
    other = path.with_suffix(".webp")
    path.rename(other)
    try:
        assert any(sample.id.endswith(other.name) for sample in task.scan(data))
    except DataError as error:
        assert other.name in str(error) or path.stem in str(error)  # noqa: PT017


def test_an_image_that_may_not_be_read_is_skipped_like_an_unreadable_one(dataset, tmp_path):
    path = images(dataset)
    task, data, samples, _ = dataset
    with barred(path):
        found = task.scan(data)
        assert [sample.id for sample in found] == [sample.id for sample in samples]
        (lost,) = [sample.id for sample in found if path.as_posix().endswith(sample.id)]
        with pytest.raises(DataError, match=r"1 unreadable images[^ï]*Permission denied"):
            store.build(task, data, found, 8, tmp_path / "cache", workers=1)
        assert store.build(task, data, found, 8, tmp_path / "cache", workers=1, skip_unreadable=True).skipped == (lost,)


def test_no_file_or_folder_that_may_not_be_looked_at_escapes_as_another_error(dataset):
    task, data, samples, _ = dataset
    whole = {sample.id for sample in samples}
    folders = [path for path in sorted(data.rglob("*")) if path.is_dir()]
    tables = [path for path in sorted(data.rglob("*")) if path.is_file() and path.suffix in (".csv", ".txt", ".json")]
    others = [path for path in sorted(data.rglob("*")) if path.is_file()]
    for path in [data, *folders, *tables, others[0], others[-1]]:
        forget(task)
        with barred(path):
            try:
                found = task.scan(data)
            except NoData as error:
                assert "could not be looked at" in str(error) or path == data  # noqa: PT017
            except DataError as error:
                assert path.name in str(error) or str(path) in str(error)  # noqa: PT017
            else:
                assert {sample.id for sample in found} == whole
