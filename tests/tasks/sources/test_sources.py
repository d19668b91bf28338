"""Unlabelled sources: each kind on a small folder, what it refuses, and what all kinds keep to."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmark.cli.studies import find_studies
from benchmark.study import Wanted
from tasks import sources, store
from tasks.base import DataError, NoData, Sample
from tasks.reading import checksums, layout, squares
from tasks.sources import hub, parquet, slides
from tests.helpers.permissions import barred
from tests.layouts import source_dicom, source_parquet, source_slides

EXTRAS = {"slides": "openslide", "dicom": "pydicom"}  # kind -> the library it needs
LOCAL = [kind for kind in sources.kinds() if kind != "hub"]
MODALITY = {"dicom": "ultrasound"}  # else histo


def fill(kind, folder):
    """Write the kind's small example to a folder."""
    if kind == "folder":
        for name in ("a/1.png", "a/b/2.JPG", "3.tif", ".thumbs/4.png", "a/.5.png", "a/notes.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 9), (len(name), 0, 0)).save(folder / name, "PNG")
    else:
        layout = {"slides": source_slides, "dicom": source_dicom}.get(kind, source_parquet)
        layout.write(folder)


def opened(kind, folder, options=""):
    return sources.open(f"{kind}:{folder}{options}", MODALITY.get(kind, "histo"))


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


def first_file(folder):
    return next(path for path in sorted(folder.rglob("*")) if path.is_file() and "/." not in path.as_posix())


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


def test_shards_in_folders_below_are_said(tmp_path):
    source_parquet.write(tmp_path / "set")
    shard = first_file(tmp_path / "set")
    shard.rename(shard.with_suffix(".PARQUET"))
    images = len(opened("parquet", tmp_path / "set").scan(tmp_path))
    source_parquet.write(tmp_path / "set" / "below")
    source = opened("parquet", tmp_path / "set")
    assert len(source.scan(tmp_path)) == images
    assert "below/" + shard.name in source.left_out(tmp_path)["in folders below"]


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


# parquet


def test_parquet_groups_by_patient_else_slide_else_image(tmp_path):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    samples = source.scan(tmp_path)
    assert len(samples) == len(source_parquet.SLIDES) * source_parquet.TILES
    assert {sample.group for sample in samples} == source_parquet.GROUPS
    source_parquet.shard(tmp_path / "flat.parquet", [("one.jpg", b"x"), ("TCGA-AB-9999-01A_0_0.jpg", b"x")])
    assert {sample.group for sample in source.scan(tmp_path)} - source_parquet.GROUPS == {"one.jpg", "TCGA-AB-9999"}


def test_parquet_takes_the_shards_of_one_folder_only(tmp_path):
    source_parquet.write(tmp_path)
    before = opened("parquet", tmp_path).scan(tmp_path)
    source_parquet.shard(tmp_path / "probes" / "test.parquet", [("benchmark.jpg", b"x")])
    (tmp_path / ".shard-00002.parquet").write_bytes(b"half")
    os.utime(tmp_path)
    assert opened("parquet", tmp_path).scan(tmp_path) == before


def test_parquet_reads_one_row_group_at_a_time(tmp_path, monkeypatch):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    kept = []
    rows = parquet._rows.__wrapped__
    monkeypatch.setattr(parquet, "_rows", lambda *place: kept.append(len(rows(*place))) or rows(*place))
    samples = source.scan(tmp_path)
    assert kept == [4, 2, 4, 2]
    kept.clear()
    source.read(tmp_path, samples[-1], 8)
    assert kept in ([4], [2])


def test_parquet_refuses_doubled_paths_missing_columns_and_broken_files(tmp_path):
    rows = [("a/1.jpg", b"1"), ("a/2.jpg", b"2")]
    source = opened("parquet", tmp_path)
    source_parquet.shard(tmp_path / "0.parquet", rows)
    source_parquet.shard(tmp_path / "1.parquet", rows[1:])
    with pytest.raises(DataError, match=r"1\.parquet: 'a/2\.jpg' is also in 0\.parquet; give every row its own path"):
        source.scan(tmp_path)
    source_parquet.shard(tmp_path / "1.parquet", [("b", b"")])
    with pytest.raises(DataError, match=r"1\.parquet: no jpeg in row 0 of row group 0"):
        source.scan(tmp_path)
    source_parquet.shard(tmp_path / "1.parquet", [("b", b"3")], columns=("path", "image"))
    with pytest.raises(DataError, match=r"1\.parquet: no column 'jpeg' of type binary, found .*image"):
        source.scan(tmp_path)
    whole = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"1\.parquet: unreadable Parquet file \(.*fetch it again"):
        source.scan(tmp_path)


def test_parquet_notices_other_shards_and_broken_images(tmp_path):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    samples = source.scan(tmp_path)
    shard = tmp_path / "shard-00000.parquet"
    source_parquet.shard(tmp_path / "new", [(samples[0].id, b"not a picture")])
    (tmp_path / "new").replace(shard)
    with pytest.raises(DataError, match=r"shard-00000\.parquet: .* is not as it was scanned; run again"):
        source.read(tmp_path, samples[0], 8)
    broken = next(sample for sample in source.scan(tmp_path) if sample.id == samples[0].id)
    with pytest.raises(DataError, match=r"shard-00000\.parquet.*jpg: unreadable image \(13 bytes"):
        source.read(tmp_path, broken, 8)
    with pytest.raises(DataError, match="'gone' is not as it was scanned"):
        source.read(tmp_path, Sample("gone", -1, "gone", samples[0].digest, "train"), 8)


# hub: a local folder takes the place of a dataset's name


@pytest.fixture
def dataset(tmp_path):
    """A dataset of 23 images in 3 files, and their digests."""
    draws = np.random.default_rng(1)
    rows = [(f"slide-{number % 5}/{number}.jpg", source_parquet.jpeg(draws)) for number in range(23)]
    for part in range(3):
        source_parquet.shard(tmp_path / "dataset" / f"train-{part}.parquet", rows[part::3])
    source = opened("parquet", "dataset")
    return f"{tmp_path}/dataset@jpeg", sorted(sample.digest for sample in source.scan(tmp_path))


def _digests(data, location):
    return sorted(sample.digest for sample in sources.open(f"hub:{location}", "histo").scan(data))


def test_hub_copies_the_encoded_images_once(dataset, tmp_path, monkeypatch):
    import datasets

    location, digests = dataset
    assert _digests(tmp_path, location) == digests
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert _digests(tmp_path, location) == digests
    groups = {sample.group for sample in sources.open(f"hub:{location}", "histo").scan(tmp_path)}
    assert groups == {f"slide-{number}" for number in range(5)}


def test_hub_copies_a_folder_of_image_files_as_they_are(tmp_path):
    draws = np.random.default_rng(2)
    for number in range(5):
        path = tmp_path / "pictures" / "train" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source_parquet.jpeg(draws))
    expected = checksums.hash_files(layout.list_images(tmp_path / "pictures" / "train"))
    assert _digests(tmp_path, f"{tmp_path}/pictures") == sorted(expected)


@pytest.mark.parametrize("world", [2, 3])  # 3 files: one in two images a machine, or one file a machine
def test_hub_machines_together_copy_every_image_once(dataset, tmp_path, monkeypatch, world):
    location, digests = dataset
    monkeypatch.setattr(hub, "ROWS", 4)
    for rank in reversed(range(world)):
        hub.materialise(location, tmp_path, rank=rank, world=world)
        if rank:
            with pytest.raises(DataError, match=rf"{rank} of {world} machines' parts are not whole, such as 0's"):
                _digests(tmp_path, location)
    assert _digests(tmp_path, location) == digests
    with pytest.raises(
        DataError, match=rf"shard-00000-of-0000{world}-00000.parquet is not of 1 machines; go on with its number"
    ):
        hub.materialise(location, tmp_path)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_hub_goes_on_at_the_exact_image(dataset, tmp_path, monkeypatch, world):
    location, digests = dataset
    monkeypatch.setattr(hub, "ROWS", 3)
    encoded, left = hub._encoded, [0]

    def stopping(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        return encoded(*arguments)

    monkeypatch.setattr(hub, "_encoded", stopping)
    for shards in (1, 2):
        for rank in range(world):
            left[0] = 3
            with pytest.raises(SystemExit):
                hub.materialise(location, tmp_path, rank=rank, world=world)
        assert len(list(tmp_path.glob("hub/*/*/*.parquet"))) == shards * world  # the fourth image stops it
    left[0] = len(digests) - 6 * world  # not one image is taken twice
    for rank in range(world):
        hub.materialise(location, tmp_path, rank=rank, world=world)
    assert _digests(tmp_path, location) == digests


def test_hub_ends_a_shard_by_its_bytes_too(dataset, tmp_path, monkeypatch):
    location, digests = dataset
    monkeypatch.setattr(hub, "BYTES", 5000)
    assert _digests(tmp_path, location) == digests
    sizes = [path.stat().st_size for path in tmp_path.glob("hub/*/*/*.parquet")]
    assert len(sizes) > 3
    assert max(sizes) < 15_000


def test_hub_goes_on_after_a_kill_in_the_middle_of_writing(dataset, tmp_path):
    location, digests = dataset
    code = (
        "import os, sys, pathlib, pyarrow.parquet\nfrom tasks.sources import hub\n"
        "write, hub.ROWS = pyarrow.parquet.write_table, 9\n"
        "def dying(table, path, **options):\n    write(table, path, **options)\n"
        "    if '-00001.' in path.name:\n        os.truncate(path, 100)\n        os._exit(9)\n"
        "pyarrow.parquet.write_table = dying\nhub.materialise(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, location, str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 9
    assert sorted(path.suffix for path in tmp_path.glob("hub/*/*/*shard*")) == [".parquet", ".part"]
    assert _digests(tmp_path, location) == digests


def test_hub_stops_at_its_limit_and_keeps_what_was_asked_apart(dataset, tmp_path, monkeypatch):
    location, digests = dataset
    monkeypatch.setattr(hub, "ROWS", 3)
    seven = _digests(tmp_path, f"{location}?limit=7")
    assert len(seven) == 7 < len(digests) == len(_digests(tmp_path, location))
    assert set(seven) < set(digests)
    for rank in range(2):
        hub.materialise(f"{location}?limit=9", tmp_path, rank=rank, world=2)
    assert len(set(_digests(tmp_path, f"{location}?limit=9"))) == 9


def test_hub_names_columns_when_in_doubt(dataset, tmp_path):
    location, _ = dataset
    with pytest.raises(DataError, match=r"no column '' of images, found path, jpeg; say @<column>"):
        _digests(tmp_path, location.removesuffix("@jpeg"))
    with pytest.raises(DataError, match=r"no column 'image' of images, found path, jpeg"):
        _digests(tmp_path, location.replace("@jpeg", "@image"))
    with pytest.raises(DataError, match=r"column 'path' holds str, not encoded images"):
        _digests(tmp_path, location.replace("@jpeg", "@path"))


def test_hub_says_what_to_do_when_the_dataset_cannot_be_read(dataset, tmp_path, monkeypatch):
    import datasets

    location, _ = dataset
    with pytest.raises(DataError, match=r"cannot be streamed \(ValueError: Bad split: test.*check the name"):
        _digests(tmp_path, location.replace("@", ":test@"))
    with pytest.raises(DataError, match=r"hub:a/b\?limit=0 is not like hub:owner/name"):
        sources.open("hub:a/b?limit=0", "histo")

    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("'owner/name' is a gated dataset on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    source = sources.open("hub:owner/name", "ultrasound")
    assert (source.name, source.access.home) == ("hub-name", "https://huggingface.co/datasets/owner/name")
    with pytest.raises(DataError, match=r"hub:owner/name: cannot be streamed \(DatasetNotFoundError.*hf auth login"):
        source.scan(tmp_path)


# slides


def test_slides_are_cut_where_at_least_half_is_tissue(tmp_path):
    pytest.importorskip("openslide")
    source_slides.write(tmp_path)
    source = opened("slides", tmp_path)
    samples = source.scan(tmp_path)
    assert [sample.id for sample in samples] == [
        f"{name}#000896_{y:06d}" for name in source_slides.SLIDES for y in (0, 448)
    ]
    assert {sample.group for sample in samples} == {"TCGA-AB-1234", "slide"}
    tile = source.read(tmp_path, samples[-1], 8)  # 0.25 microns a pixel, so read from the half-size level, not resized
    np.testing.assert_array_equal(tile, source_slides.picture(1)[448:896:2, 896:1344:2])


@pytest.mark.parametrize(("microns", "levels", "side"), [(0.25, 1, 448), (0.4, 2, 280), (None, 2, 224), (1.0, 2, 224)])
def test_tiles_have_the_stated_resolution(tmp_path, microns, levels, side):
    pytest.importorskip("openslide")
    picture = source_slides.picture()
    source_slides.slide(tmp_path / "one.tif", picture, microns=microns, levels=levels)
    source = opened("slides", tmp_path)
    sample = source.scan(tmp_path)[-1]
    x, y = (int(part) for part in sample.id.rpartition("#")[2].split("_"))
    assert x % side == y % side == 0
    expected = Image.fromarray(picture[y : y + side, x : x + side])
    expected = np.asarray(expected.resize((slides.TILE, slides.TILE), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(source.read(tmp_path, sample, 8), expected)


def test_slides_refuse_glass_and_what_is_no_slide(tmp_path):
    pytest.importorskip("openslide")
    source = opened("slides", tmp_path)
    source_slides.slide(tmp_path / "good.tif", source_slides.picture())
    noise = np.random.default_rng(0).integers(238, 248, (1024, 1024, 3)).astype(np.uint8)
    source_slides.slide(tmp_path / "glass.tif", noise)
    source_slides.slide(tmp_path / "small.tif", source_slides.picture()[:200, -200:], levels=1)
    with pytest.raises(DataError, match=r"2 slides without a tile of tissue: glass\.tif, small\.tif; move them out"):
        source.scan(tmp_path)
    (tmp_path / "bad.svs").write_bytes(b"not a slide")
    with pytest.raises(DataError, match=r"bad\.svs: not a slide that OpenSlide reads"):
        source.scan(tmp_path)


# dicom


@pytest.fixture
def clinic(tmp_path):
    pytest.importorskip("pydicom")
    return tmp_path


def _first(folder):
    source = opened("dicom", folder)
    return source.read(folder, source.scan(folder)[0], 8)


def test_dicom_takes_every_frame_and_lists_what_it_ignores(clinic):
    source_dicom.write(clinic)
    samples = opened("dicom", clinic).scan(clinic)
    assert len(samples) == source_dicom.IMAGES
    assert [sample.id for sample in samples] == [f"a/clip.dcm#0000{n}" for n in range(source_dicom.FRAMES)] + [
        "a/still.dcm#00000",
        "b/no suffix#00000",
    ]
    assert opened("dicom", clinic).left_out(clinic) == {
        "not DICOM": ["b/README.txt"],
        "of modality CT": ["b/ct.dcm"],
        "without pixels": ["b/report.dcm"],
    }


def test_dicom_groups_by_a_hash_and_never_by_the_patients_name(clinic):
    source_dicom.write(clinic)
    samples = opened("dicom", clinic).scan(clinic)
    assert {sample.group for sample in samples} == {
        hashlib.sha256(name).hexdigest()[:12] for name in (b"Jane Doe", b"1.2.3")
    }
    assert not any("Jane" in str(value) for sample in samples for value in sample)
    source_dicom.dicom(clinic / "nobody.dcm", np.ones((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"nobody\.dcm: neither PatientID nor StudyInstanceUID"):
        opened("dicom", clinic).scan(clinic)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
WIDE = GREY.astype(np.uint16) * 16 + 100
RANGED = np.round((WIDE - 100.0) / (WIDE.max() - 100) * 255)
WINDOWED = np.round(((WIDE - 200.5) / 800).clip(0, 1) * 255)  # window of 801 about 601: 200.5 is black, 1000.5 white


@pytest.mark.parametrize(
    ("array", "attributes", "expected"),
    [
        (GREY, {}, GREY),
        (GREY, {"PhotometricInterpretation": "MONOCHROME1"}, 255 - GREY),
        (GREY, {"WindowCenter": 10, "WindowWidth": 5}, GREY),  # 8-bit pixels are taken as they are
        (WIDE, {}, RANGED),
        (WIDE, {"PhotometricInterpretation": "MONOCHROME1"}, 255 - RANGED),
        (WIDE, {"WindowCenter": [601, 1], "WindowWidth": [801, 1]}, WINDOWED),
        (WIDE, {"WindowCenter": "201.5", "WindowWidth": 1601, "RescaleSlope": 2, "RescaleIntercept": -1000}, WINDOWED),
        (np.full((8, 8), 700, np.uint16), {}, np.zeros((8, 8))),
        (WIDE.astype(np.int16) - 800, {}, RANGED),
    ],
    ids=["as is", "inverted", "8 bits", "range", "inverted range", "window", "rescaled", "flat", "signed"],
)  # fmt: skip
def test_dicom_grey_becomes_8_bits(clinic, array, attributes, expected):
    source_dicom.dicom(clinic / "x.dcm", array, PatientID="1", BurnedInAnnotation="NO", **attributes)
    np.testing.assert_array_equal(_first(clinic), np.repeat(expected[..., None].astype(np.uint8), 3, axis=2))


def test_dicom_colour_becomes_rgb(clinic):
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    source_dicom.dicom(clinic / "x.dcm", colours, PatientID="1", BurnedInAnnotation="NO")
    np.testing.assert_array_equal(_first(clinic), colours)
    ycc = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    source_dicom.dicom(
        clinic / "x.dcm", ycc, PatientID="1", BurnedInAnnotation="NO", PhotometricInterpretation="YBR_FULL"
    )
    assert np.abs(_first(clinic).astype(int) - colours).max() <= 3  # rounding there and back
    half = np.repeat(ycc[:, ::2], 2, axis=1)
    half[..., 0] = ycc[..., 0]
    packed = np.concatenate([half[:, ::2, :1], half[:, 1::2, :1], half[:, ::2, 1:]], axis=2).tobytes()
    source_dicom.dicom(
        clinic / "x.dcm",
        half,
        PatientID="1",
        BurnedInAnnotation="NO",
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=packed,
    )
    again = np.asarray(Image.fromarray(half, "YCbCr").convert("RGB"))
    assert np.abs(_first(clinic).astype(int) - again).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_palettes_are_applied(clinic, bits):
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
    tables = {}
    for name, table in zip(("Red", "Green", "Blue"), palette, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = (table if bits == 8 else table.astype(np.uint16) * 257).tobytes()
    source_dicom.dicom(
        clinic / "x.dcm",
        GREY,
        PatientID="1",
        BurnedInAnnotation="NO",
        PhotometricInterpretation="PALETTE COLOR",
        **tables,
    )
    np.testing.assert_array_equal(_first(clinic), palette.T[GREY])


def _lit(folder, regions=(), **attributes):
    """Which pixels of a white 40 x 60 frame are not blackened."""
    source_dicom.dicom(folder / "x.dcm", np.full((40, 60), 255, np.uint8), PatientID="1", regions=regions, **attributes)
    return _first(folder)[..., 0] > 0


def _box(top, bottom, left, right):
    box = np.zeros((40, 60), bool)
    box[top:bottom, left:right] = True
    return box


def test_dicom_blackens_what_is_outside_the_regions(clinic):
    two = [(10, 20, 29, 34), (40, 0, 59, 5)]
    np.testing.assert_array_equal(_lit(clinic, two), _box(20, 35, 10, 30) | _box(0, 6, 40, 60))
    np.testing.assert_array_equal(_lit(clinic, two, BurnedInAnnotation="NO"), _lit(clinic, two))
    np.testing.assert_array_equal(_lit(clinic, [(0, 8, 60, 40)]), _box(8, 40, 0, 60))  # one px beyond: counted from 1


def test_dicom_without_usable_regions_loses_its_margins(clinic):
    margins = _box(8, 36, 6, 54)
    np.testing.assert_array_equal(_lit(clinic), margins)
    np.testing.assert_array_equal(_lit(clinic, BurnedInAnnotation="YES"), margins)
    assert _lit(clinic, BurnedInAnnotation="NO").all()
    np.testing.assert_array_equal(_lit(clinic, [(0, 0, 0, 0)]), margins)  # regions that are empty or next to it
    np.testing.assert_array_equal(_lit(clinic, [(30, 20, 10, 5)]), margins)
    np.testing.assert_array_equal(_lit(clinic, [(10, 10, 11, 11)]), margins)
    assert _lit(clinic, [(0, 0, 0, 0)], BurnedInAnnotation="NO").all()
    np.testing.assert_array_equal(_lit(clinic, [(0, 0, 0, 0), (10, 20, 29, 34)]), _box(20, 35, 10, 30))
    np.testing.assert_array_equal(_lit(clinic, [(10, 2, 90, 70)]), margins & _box(2, 40, 10, 60))
    np.testing.assert_array_equal(_lit(clinic, [(100, 0, 120, 30)], BurnedInAnnotation="NO"), margins)


def test_dicom_refuses_what_it_cannot_read(clinic):
    (clinic / "x.dcm").write_bytes(b"not DICOM at all")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(InvalidDicomError.*fetch it again"):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", PixelData=b"short!")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(ValueError: "):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", PhotometricInterpretation="CMYK")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(.*CMYK"):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", Modality="MR")
    with pytest.raises(
        DataError, match=r"no ultrasound image in DICOM below it, found 1 not read: 1 of modality MR \(x\.dcm\)"
    ):
        _first(clinic)


def test_dicom_names_the_plug_ins_of_a_compression(clinic):
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1")
    file = dcmread(clinic / "x.dcm")
    file.PixelData = encapsulate([b"\0\0"])
    for syntax, message in (
        ("1.2.840.10008.1.2.4.70", r"to decode JPEG Lossless.*, install a plug-in of pydicom: .*pylibjpeg"),
        ("1.2.840.10008.1.2.4.100", r"no decoder for transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100; convert the file"),
    ):
        file.file_meta.TransferSyntaxUID = syntax
        file.save_as(clinic / "x.dcm")
        with pytest.raises(DataError, match=rf"x\.dcm: {message}"):
            opened("dicom", clinic).scan(clinic)
