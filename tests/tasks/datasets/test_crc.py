"""NCT-CRC-HE: two training sets, one test set of other patients, and no test part cut from the 100K."""

import shutil

import pytest

from tasks.base import DataError, NoData
from tasks.histo.crc import TASKS
from tests.layouts import crc

CRC, NONORM = TASKS


@pytest.mark.parametrize(("task", "train"), [(CRC, "NCT-CRC-HE-100K"), (NONORM, "NCT-CRC-HE-100K-NONORM")])
def test_each_task_trains_on_its_own_set_and_tests_on_the_7k(tmp_path, task, train):
    crc.write(tmp_path)
    samples = task.scan(tmp_path)
    assert len(samples) == crc.IMAGES
    assert {(sample.id.split("/")[0], sample.split) for sample in samples} == {
        (train, "train"),
        ("CRC-VAL-HE-7K", "test"),
    }
    assert all(sample.id.split("/")[1] == task.classes[sample.label] for sample in samples)
    assert all(sample.group == sample.id for sample in samples)
    assert {task.read(tmp_path, sample, 8).shape for sample in (samples[0], samples[-1])} == {(16, 16, 3)}


def test_the_two_training_sets_share_the_test_images(tmp_path):
    crc.write(tmp_path)
    one, other = (set(task.scan(tmp_path)) for task in TASKS)
    assert {sample.split for sample in one & other} == {"test"}
    assert len(one & other) == sum(crc.TEST)


def test_a_test_part_is_never_cut_from_the_100k(tmp_path):
    crc.write(tmp_path)
    shutil.rmtree(tmp_path / "CRC-VAL-HE-7K")
    for task in TASKS:
        with pytest.raises(DataError, match=r"without CRC-VAL-HE-7K.*put CRC-VAL-HE-7K \(from https.*beside") as error:
            task.scan(tmp_path)
        assert not isinstance(error.value, NoData)


def test_the_7k_alone_is_no_data_and_one_100k_serves_one_task(tmp_path):
    crc.write(tmp_path)
    shutil.rmtree(tmp_path / "NCT-CRC-HE-100K-NONORM")
    assert len(CRC.scan(tmp_path)) == crc.IMAGES
    with pytest.raises(NoData, match=r"no folder 'NCT-CRC-HE-100K-NONORM'.*make data TASK=crc_nonorm"):
        NONORM.scan(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "CRC-VAL-HE-7K").rename(alone / "CRC-VAL-HE-7K")
    for task in TASKS:
        with pytest.raises(NoData, match=f"make data TASK={task.name}`"):
            task.scan(alone)


def test_the_sets_may_lie_in_different_folders(tmp_path):
    crc.write(tmp_path)
    samples = CRC.scan(tmp_path)
    other = tmp_path.parent / f"{tmp_path.name} apart"
    (other / "test").mkdir(parents=True)
    shutil.copytree(tmp_path / "NCT-CRC-HE-100K", other / "NCT-CRC-HE-100K")
    shutil.copytree(tmp_path / "CRC-VAL-HE-7K", other / "test" / "CRC-VAL-HE-7K")
    assert CRC.scan(other) == samples
    assert CRC.read(other, samples[0], 8).shape == (16, 16, 3)


def test_a_name_must_agree_with_its_folder(tmp_path):
    crc.write(tmp_path)
    folder = tmp_path / "CRC-VAL-HE-7K" / "MUS"
    tile = next(folder.iterdir())
    tile.rename(folder / "MUC-AAAFLCLY.tif")
    with pytest.raises(DataError, match=r"MUC-AAAFLCLY.tif: the name says 'MUC', the folder 'MUS'"):
        CRC.scan(tmp_path)
    (folder / "MUC-AAAFLCLY.tif").rename(folder / "MUS-1.tif")
    with pytest.raises(DataError, match=r"MUS-1.tif: the name is not like 'ADI-AAAFLCLY.tif'"):
        CRC.scan(tmp_path)


def test_a_class_without_its_folder_is_named(tmp_path):
    crc.write(tmp_path)
    shutil.rmtree(tmp_path / "NCT-CRC-HE-100K" / "STR")
    with pytest.raises(DataError, match="NCT-CRC-HE-100K: no folder 'STR', found ADI, BACK"):
        CRC.scan(tmp_path)
