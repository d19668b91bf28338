"""What every task of the registry keeps to, found by folder scan, and the registry itself."""

import importlib
import importlib.util
import json
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks import cards, splits
from tasks.base import DataError, Fixed, Folds, NoData, identity
from tasks.reading import squares
from tests import layouts


def layout(name):
    """The layout module of a task: that of its file, whose name the task's begins with."""
    while importlib.util.find_spec(f"tests.layouts.{name}") is None:
        name, _, variant = name.rpartition("_")
        assert variant, "no layout"
    return importlib.import_module(f"tests.layouts.{name}")


ALL = [(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]
REAL = [pair for pair in ALL if not tasks.get(*pair).synthetic]
CARD = ("What", "Who", "Counts", "Licence", "Access", "Split", "Group", "Traps", "Published")
COMPLETE = {  # images of each complete dataset, as its authors or a reader of its files count them
    "bach": 400,
    "bracs": 4539,
    "bracs_published": 4539,
    "breakhis_100x": 2081,
    "breakhis_200x": 2013,
    "breakhis_400x": 1820,
    "breakhis_40x": 1995,
    "breakhis_40x_4class": 1471,
    "breakhis_40x_4class_published": 1471,
    "crc": 107_180,
    "crc_nonorm": 107_180,
    "idc": 277_524,
    "kather2016": 4375,
    "kather2016_published": 5000,
    "lc25000": 25_000,
    "mhist": 3152,
    "pcam": 327_680,
    "aul": 735,
    "breast_usg": 252,
    "bus_bra": 1875,
    "busi": 780,
    "butterfly": 41_076,
    "fatty_liver": 550,
    "fatty_liver_ultrabench": 550,
    "gbcu": 1255,
    "mmotu": 1469,
    "pocus": None,
    "pocus_published": None,
    "tn5000": 5000,
    "tn5000_published": 5000,
}
READ = 6  # images read of each task
PIXELS = 32


@pytest.fixture(scope="module", params=ALL, ids=["/".join(pair) for pair in ALL])
def found(request, tmp_path_factory):
    """A task, a data folder that holds its layout (empty for a simulated one), and its samples."""
    task = tasks.get(*request.param)
    data = tmp_path_factory.mktemp(task.name)
    if not task.synthetic:
        layout(task.name).write(data)
    return task, data, task.scan(data)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A data folder with the layout of every dataset, each in a folder of its own, which POCUS brings itself."""
    data = tmp_path_factory.mktemp("everything")
    for module in pkgutil.iter_modules(layouts.__path__):
        if not module.name.startswith("source_"):
            importlib.import_module(f"tests.layouts.{module.name}").write(data / module.name.replace("pocus", ""))
    return data


@pytest.mark.parametrize(("modality", "name"), ALL)
def test_a_task_is_called_like_its_file_and_folder(modality, name):
    task = tasks.get(modality, name)
    assert (task.modality, task.name) == (modality, name)
    assert len(set(task.classes)) == len(task.classes) >= 2
    assert all(isinstance(text, str) and text for text in (*task.classes, task.title, task.question, task.group_kind))
    assert all((task.policy, task.images, task.access.home, task.access.licence, task.access.citation))
    assert task.version >= 1
    assert task.policy in squares.POLICIES
    if task.synthetic:
        assert "simulated" in task.group_kind
    if task.counts:
        whole = sum(sum(classes.values()) for classes in task.counts.values())
        assert whole == task.expected if all(task.counts.values()) else whole < task.expected
        assert all(tuple(classes) in ((), task.classes) for classes in task.counts.values())
    assert task.expected == COMPLETE.get(name, task.expected)
    for checksum in (*task.access.checksums.values(), *(d.checksum for d in task.access.downloads if d.checksum)):
        kind, _, value = checksum.partition(":")
        assert len(value) == {"md5": 32, "sha256": 64}[kind]
    assert task.on_request or getattr(task.protocol, "crossing", "") != "keep"


@pytest.mark.parametrize("modality", tasks.modalities())
def test_every_card_says_the_same_things_in_the_same_order(modality):
    package = importlib.import_module(f"tasks.{modality}")
    for module in pkgutil.iter_modules(package.__path__):
        card = importlib.import_module(f"tasks.{modality}.{module.name}").__doc__
        if not module.name.startswith("phantom"):
            assert re.findall(r"^(\w+) {2,}", card, re.MULTILINE) == list(CARD), module.name


@pytest.mark.parametrize(("modality", "name"), REAL)
def test_every_real_card_says_whether_its_groups_are_independent_and_where_copies_may_hide(modality, name):
    task = tasks.get(modality, name)
    parts = cards.read(task).parts
    assert parts["Group"].endswith(". Independent" if task.independent else ". Not known to be independent")
    assert len(re.findall("independent", parts["Group"], re.IGNORECASE)) == 1
    assert len(re.findall(r"(?:^|\. )Copies: \w.{20}", parts["Traps"])) == 1


def test_reading_and_scanning_can_be_handed_to_another_process(found):
    task, data, samples = found
    assert pickle.loads(pickle.dumps(task.scan))(data)[0] == samples[0]
    assert pickle.loads(pickle.dumps(task.read))(data, samples[0], PIXELS).dtype == np.uint8


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


def test_a_dataset_is_the_same_beside_all_others(found, everything):
    task, data, samples = found
    if not task.synthetic:
        assert task.scan(everything) == samples
        np.testing.assert_array_equal(task.read(everything, samples[0], PIXELS), task.read(data, samples[0], PIXELS))


def test_a_dataset_is_found_in_a_folder_of_any_name_and_only_once(found, tmp_path):
    task, data, samples = found
    if task.synthetic or task.family == "pocus":  # which lies as deep as is looked, in the repository it comes with
        return
    places = [tmp_path / place for place in ("one/my sets", "two/a", "two/b")]
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(data)
    assert task.scan(tmp_path / "one") == samples
    read = task.read(tmp_path / "one", samples[0], PIXELS)
    np.testing.assert_array_equal(read, task.read(data, samples[0], PIXELS))
    with pytest.raises(DataError, match=r"(is there 2 times|2 files named) .*keep one"):
        task.scan(tmp_path / "two")


def test_read_gives_images_that_the_store_makes_square(found):
    task, data, samples = found
    for sample in samples[:: max(1, len(samples) // READ)][:READ]:
        image = task.read(data, sample, PIXELS)
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)
        assert squares.to_square(image, PIXELS, task.policy).shape == (PIXELS, PIXELS, 3)
        np.testing.assert_array_equal(image, task.read(data, sample, PIXELS))


def test_no_group_is_on_two_sides(found):
    task, _, samples = found
    divisions = splits.assignments(task, samples)
    assert len(divisions) == (task.protocol.k * task.protocol.repeats if isinstance(task.protocol, Folds) else 1)
    for division in divisions:
        parts = (division.train, division.val, division.test)
        train, val, test = ({samples[i].group for i in part} for part in parts)
        assert min(len(train), len(val), len(test)) > 0
        crossing = getattr(task.protocol, "crossing", "refuse")
        if crossing != "keep":
            assert len(train) + len(val) + len(test) == len(train | val | test)
        if crossing != "remove":
            halved = getattr(task.protocol, "halved", False)
            divided = splits.halves(task, samples)[1] if halved else np.arange(len(samples))
            assert sorted(np.concatenate(parts).tolist()) == divided.tolist()
        if getattr(
            task.protocol, "published", False
        ):  # where no val part is published, it is cut from the training part
            val = {"val"} & {sample.split for sample in samples} or {"train"}
            assert [{samples[i].split for i in part} for part in parts] == [{"train"}, val, {"test"}]
        assert all({samples[i].label for i in part} == set(range(len(task.classes))) for part in parts)
    if getattr(task.protocol, "halved", False):
        held, probed = ({samples[i].group for i in half} for half in splits.halves(task, samples))
        assert not held & probed
        assert held | probed == {sample.group for sample in samples}


def test_an_empty_data_folder_is_no_data_with_the_remedy(found, tmp_path):
    task, _, _ = found
    if task.synthetic:
        assert task.scan(tmp_path)
    else:
        with pytest.raises(NoData, match=r"make data TASK=(\w+)") as caught:
            task.scan(tmp_path)
        assert re.search(r"make data TASK=(\w+)", str(caught.value))[1] in tasks.names(task.modality)
        with pytest.raises(DataError):
            task.scan(tmp_path / "not there")


OPEN = {  # the lists as they were made, by version: to change one is to write another
    ("histo", 1): {"crc": 2, "pcam": 1},
    ("ultrasound", 1): {"aul": 2, "bus_bra": 3},
}


@pytest.mark.parametrize("modality", tasks.modalities())
def test_corpora_are_unlabelled_sources_and_a_fixed_list(modality):
    corpora = importlib.import_module(f"tasks.{modality}").CORPORA
    assert set(corpora) == {"phantom", "open"}
    assert all({sample.label for sample in source.scan(Path("nowhere"))} == {-1} for source in corpora["phantom"])
    assert dict(corpora["open"].members) == OPEN[modality, corpora["open"].version]


@pytest.mark.parametrize("modality", tasks.modalities())
def test_anyone_can_fetch_and_check_a_member_of_the_open_corpus_and_none_is_tested_on_whole(modality):
    listed = importlib.import_module(f"tasks.{modality}").CORPORA["open"]
    members = [tasks.get(modality, name) for name in listed.members]
    for task in members:
        assert task.version == listed.members[task.name]
        assert task.access.redistributable
        assert task.access.downloads
        assert all(download.checksum for download in task.access.downloads)
        assert task.expected
        assert not task.synthetic
        assert task.root is None
        assert not task.on_request
        assert getattr(task.protocol, "crossing", "refuse") != "keep"
        assert isinstance(task.protocol, Fixed) or task.protocol.halved
    assert len({task.family for task in members}) == len(members)
    tested_whole = [tasks.get(modality, name) for name in tasks.names(modality)]
    tested_whole = [task for task in tested_whole if isinstance(task.protocol, Folds) and not task.protocol.halved]
    assert not {task.family for task in members} & {task.family for task in tested_whole}


@pytest.mark.parametrize("modality", tasks.modalities())
def test_no_image_of_the_open_corpus_is_tested_on(modality, everything):
    """Whatever tasks of the members' datasets there are."""
    members = [tasks.get(modality, name) for name in OPEN[modality, 1]]
    held = set()
    for task in members:
        samples = task.scan(everything)
        held |= {samples[i].digest for i in splits.train_part(task, samples)}
    families = {task.family for task in members}
    others = [tasks.get(modality, name) for name in tasks.names(modality)]
    for task in (task for task in others if task.family in families and not task.on_request):
        samples = task.scan(everything)
        tested = {samples[i].digest for part in splits.assignments(task, samples) for i in part.test}
        assert tested
        assert not tested & held, task.name


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'busi'"):
        tasks.get("ultrasound", "bussi")
    with pytest.raises(ValueError, match="did you mean 'histo'"):
        tasks.names("histology")


def test_tasks_import_nothing_heavy():
    modules = [m.name for m in pkgutil.walk_packages(tasks.__path__, "tasks.")]
    assert {"tasks.store", "tasks.histo.pcam", "tasks.sources.hub"} <= set(modules)
    code = (
        "import importlib, json, sys; list(map(importlib.import_module, json.loads(sys.argv[1]))); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, json.dumps(modules)], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in ran.stdout.split()}
    assert not loaded & {"torch", "benchmark", "datasets", "sklearn", "pandas", "pyarrow"}
