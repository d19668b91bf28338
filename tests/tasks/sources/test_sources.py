"""Unlabelled sources: each kind on a small folder, what it refuses, and what all kinds keep to."""

import os
import pickle
import sys

import numpy as np
import pytest

from benchmark.cli.studies import find_studies
from benchmark.study import Wanted
from tasks import sources, store
from tasks.base import DataError, NoData
from tasks.reading import squares
from tasks.sources import slides
from tests.helpers.corpora import EXTRAS, fill, first_file, opened
from tests.helpers.permissions import barred

LOCAL = [kind for kind in sources.kinds() if kind != "hub"]


@pytest.fixture(params=sources.kinds())
def found(request, tmp_path):
    """A kind, its source at DATA/"Some Images", DATA, and its samples."""
    kind = request.param
    pytest.importorskip(EXTRAS.get(kind, "numpy"))
    fill(kind, tmp_path / "Some Images")
    source = opened(kind, tmp_path / "Some Images", "@jpeg" if kind == "hub" else "")
    return kind, source, tmp_path, source.scan(tmp_path)


def test_every_kind_gives_unlabelled_samples_in_a_stable_order(found):
    kind, source, data, samples = found
    assert samples == source.scan(data) == sorted(samples)
    assert len({sample.id for sample in samples}) == len(samples) > 1
    for sample in samples:
        assert (sample.label, sample.split) == (-1, "train")
        assert sample.group
        assert len(bytes.fromhex(sample.digest)) == 32
    assert source.policy == ("pad" if kind == "dicom" else "crop")


def test_every_kind_reads_native_rgb_and_is_picklable(found):
    _, source, data, samples = found
    thawed = pickle.loads(pickle.dumps(source))
    assert thawed.scan(data) == samples
    for sample in samples:
        image = thawed.read(data, sample, 8)
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
        np.testing.assert_array_equal(image, source.read(data, sample, 16))


def test_every_kind_can_be_stored(found):
    _, source, data, samples = found
    built = store.build(source, data, samples, 8, data / "cache", workers=1)
    assert built.ids == tuple(sample.id for sample in samples)
    for row, sample in enumerate(samples):
        square = squares.to_square(source.read(data, sample, 8), 8, source.policy)
        np.testing.assert_array_equal(built.pixels[row], square)


def test_nothing_that_is_published_holds_the_location(found):
    kind, source, data, samples = found
    assert source.name == f"{kind}-some-images" + ("-jpeg" if kind == "hub" else "")
    assert source.images == f"{kind} {source.name} {source.version}"
    published = [source.title, source.images, source.group_kind, *vars(source.access).values()]
    published += [value for sample in samples for value in sample]
    assert not any(str(data) in str(value) or str(data).replace("/", "--") in str(value) for value in published)


def test_the_same_files_elsewhere_are_the_same_samples(found):
    kind, _, data, samples = found
    if kind == "hub":
        return
    (data / "moved").mkdir()
    (data / "Some Images").rename(data / "moved" / "Some Images")
    relative = opened(kind, "moved/Some Images")
    assert relative.scan(data) == samples
    assert relative.read(data, samples[0], 8).ndim == 3


@pytest.mark.parametrize("kind", LOCAL)
def test_a_missing_or_empty_location_says_what_to_do(tmp_path, kind):
    with pytest.raises(NoData, match=r"nowhere: no such folder; give CORPUS a folder that is there"):
        opened(kind, tmp_path / "nowhere").scan(tmp_path)
    with pytest.raises(DataError, match=r"no .*; give (another|the) folder"):
        opened(kind, tmp_path).scan(tmp_path)


@pytest.mark.parametrize("kind", LOCAL)
def test_a_file_whose_name_is_not_utf_8_is_named_before_anything_is_written(tmp_path, kind):
    pytest.importorskip(EXTRAS.get(kind, "numpy"))
    fill(kind, tmp_path / "set")
    path = first_file(tmp_path / "set")
    path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"\xe9" + os.fsencode(path.suffix)))
    source = opened(kind, tmp_path / "set")
    with pytest.raises(DataError, match=r"\\xe9.*: its name is not UTF-8.*rename it"):
        source.stream(tmp_path) if source.stream else source.scan(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "slides", "dicom"])
def test_a_file_that_may_not_be_read_is_skipped_like_an_unreadable_image(tmp_path, kind):
    pytest.importorskip(EXTRAS.get(kind, "numpy"))
    fill(kind, tmp_path / "set")
    source, path = opened(kind, tmp_path / "set"), first_file(tmp_path / "set")
    name = path.relative_to(tmp_path / "set").as_posix()
    whole = {sample for sample in source.scan(tmp_path) if sample.id.partition("#")[0] != name}
    slides._slide.cache_clear()  # it holds open files
    with barred(path):
        samples = source.scan(tmp_path)
        (lost,) = set(samples) - whole
        assert (lost.id.partition("#")[0], len(samples)) == (name, len(whole) + 1)
        with pytest.raises(DataError, match=rf"1 unreadable images.*\n.*{path.name}: .*ermission denied"):
            store.build(source, tmp_path, samples, 8, tmp_path / "cache", workers=1)
        built = store.build(source, tmp_path, samples, 8, tmp_path / "cache", workers=1, skip_unreadable=True)
    assert built.skipped == (lost.id,)
    assert set(built.ids) == {sample.id for sample in whole}


def test_every_local_kind_says_what_it_leaves_out(tmp_path):
    for kind in LOCAL:
        if kind in EXTRAS:
            pytest.importorskip(EXTRAS[kind])
        fill(kind, tmp_path / kind)
        (tmp_path / kind / "zz").mkdir()
        (tmp_path / kind / "zz" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        (tmp_path / kind / "zz" / "photo.heic").write_bytes(b"x")
        left_out = opened(kind, tmp_path / kind).left_out(tmp_path)
        assert left_out["a link to nothing"] == ["zz/gone.png"]
        assert "zz/photo.heic" in [path for paths in left_out.values() for path in paths]
    assert opened("folder", tmp_path / "folder").left_out(tmp_path)["hidden"] == [".thumbs/4.png", "a/.5.png"]


def test_a_run_says_what_its_corpus_and_tasks_leave_out(tmp_path, capsys):
    fill("folder", tmp_path / "set")
    wanted = Wanted(
        modalities=("histo",), track="smoke", pretexts=("mae",), tasks=("phantom_local",), corpus="folder:set"
    )
    (study,) = find_studies(wanted, tmp_path, tmp_path / "cache")
    assert study.pinned.corpus.images == 3
    reasons = "1 PNG by content, under another suffix (a/notes.txt), 2 hidden (.thumbs/4.png, a/.5.png)"
    assert f"histo/folder-set: 3 not read: {reasons}" in capsys.readouterr().out


def test_a_folder_without_a_readable_image_says_what_lies_there(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image below it \(1 not read: 1 in DICOM \(scan\.dcm\)\)"):
        opened("folder", tmp_path).scan(tmp_path)


def test_a_spec_is_checked_before_anything_is_read():
    assert sources.kinds() == ("dicom", "folder", "hub", "parquet", "slides", "stream")
    with pytest.raises(ValueError, match=r"unknown kind of source 'foldr'; did you mean 'folder'\?"):
        sources.open("foldr:/x", "histo")
    with pytest.raises(ValueError, match="unknown modality 'hist'; did you mean 'histo'"):
        sources.open("folder:/x", "hist")
    with pytest.raises(DataError, match="'folder:' has no location; write kind:location, such as folder:/data/images"):
        sources.open("folder:", "histo")
    with pytest.raises(DataError, match="is read as ultrasound, not histo; use another kind"):
        sources.open("dicom:/x", "histo")
    with pytest.raises(DataError, match="is read as histo, not ultrasound"):
        sources.open("slides:/x", "ultrasound")


@pytest.mark.parametrize("kind", EXTRAS)
def test_a_missing_library_is_named_with_its_remedy(tmp_path, monkeypatch, kind):
    fill(kind, tmp_path)
    monkeypatch.setitem(sys.modules, EXTRAS[kind], None)
    with pytest.raises(DataError, match=rf"{EXTRAS[kind]} is not here .*pip install 'pretext-bench\[{kind}\]'"):
        opened(kind, tmp_path).scan(tmp_path)


# folder


def test_a_folder_is_read_to_its_depth_without_hidden_files(tmp_path):
    fill("folder", tmp_path)
    samples = opened("folder", tmp_path).scan(tmp_path)
    assert [(sample.id, sample.group) for sample in samples] == [
        ("3.tif", "3.tif"),
        ("a/1.png", "a"),
        ("a/b/2.JPG", "a/b"),
    ]
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png: unreadable image \(0 bytes"):
        opened("folder", tmp_path).read(tmp_path, samples[1], 8)
