"""What lies in folders: links, hidden parts, what may not be entered, names in other encodings, what is left out."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.base import DataError, digest
from tasks.reading import decoding, folders, layout
from tests.helpers.permissions import barred

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path)
    return path


def names(paths, top: Path) -> list[str]:
    return [path.relative_to(top).as_posix() for path in paths]


READ = ("a.png", "b.JPG", "c.jpeg", "d.jfif", "e.jpe", "f.TIF", "g.tiff", "h.bmp", "i.dib", "j.gif", "k.webp", "l.jp2")


@pytest.mark.parametrize("name", [*READ, "m.j2k", "n.ppm", "o.pnm"])
def test_every_suffix_that_is_listed_is_also_decoded(tmp_path, name):
    path = picture(tmp_path / name)
    found = folders.list_images(tmp_path)
    assert found == ([path], {})
    assert decoding.decode(path).shape == (12, 10, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.dcm", "in DICOM"),
        ("x.SVS", "whole slides"),
        ("x.mp4", "clips"),
        ("x.npy", "arrays"),
        ("x.nii.gz", "archives"),
        ("x.heic", "of an image format that is not read"),
        ("x.avif", "of an image format that is not read"),
    ],
)
def test_what_may_be_an_image_and_is_not_read_has_its_reason(tmp_path, name, reason):
    kept = picture(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"x")
    assert folders.list_images(tmp_path) == ([kept], {reason: [tmp_path / "sub" / name]})


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("gif", "GIF"), ("tif", "TIFF"), ("webp", "WebP")]
)
@pytest.mark.parametrize("name", ["scan", "scan.png_", "scan.001", "scan.txt"])
def test_an_image_under_another_suffix_is_seen_by_its_content(tmp_path, suffix, kind, name):
    picture(tmp_path / f"scan.{suffix}").rename(tmp_path / name)
    assert folders.list_images(tmp_path) == ([], {f"{kind} by content, under another suffix": [tmp_path / name]})


def test_other_files_are_none_of_an_image_folders_business(tmp_path):
    for name in ("README", "labels.csv", "Thumbs.db", "report.pdf"):
        (tmp_path / name).write_bytes(b"text, and more of it")
    assert folders.list_images(tmp_path) == ([], {})


HIDDEN = (".ipynb_checkpoints/a-checkpoint.png", "._a.png", "@eaDir/a.png/thumb.png", "__MACOSX/a.png", ".x/y/z.png")


def test_hidden_parts_of_a_path_are_counted_and_not_read(tmp_path):
    kept = picture(tmp_path / "patient" / "a.png")
    for name in HIDDEN:
        picture(tmp_path / "patient" / name)
    found = folders.list_images(tmp_path)
    assert found.images == [kept]
    assert names(found.left_out["hidden"], tmp_path / "patient") == sorted(HIDDEN)
    assert folders.list_images(tmp_path / "patient" / ".x").images  # what is asked for is not hidden


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    picture(top / "real" / "a.png")
    picture(elsewhere / "deep" / "b.png")
    (elsewhere / "deep" / "up").symlink_to(elsewhere)
    (top / "a link").symlink_to(top / "real")
    (top / "other").symlink_to(elsewhere)
    (top / "c.png").symlink_to(elsewhere / "deep" / "b.png")
    (top / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (top / "self.png").symlink_to(top / "self.png")
    found = folders.list_images(top)
    assert names(found.images, top) == ["c.png", "other/deep/b.png", "real/a.png"]
    left_out = {reason: names(paths, top) for reason, paths in found.left_out.items()}
    assert left_out == {
        folders.LINKED: ["a link", "other/deep/up"],
        "a link to nothing": ["gone.png"],
        "cannot be looked at (Too many levels of symbolic links)": ["self.png"],
    }


def test_a_folder_that_may_not_be_entered_is_reported_and_ends_nothing(tmp_path):
    kept, closed = picture(tmp_path / "open" / "a.png"), picture(tmp_path / "closed" / "b.png").parent
    with barred(closed):
        found = folders.list_images(tmp_path)
    assert found == ([kept], {"a folder that cannot be entered (Permission denied)": [closed]})
    with barred(tmp_path / "open", closed):
        assert folders.list_images(tmp_path).images == []
    assert len(folders.list_images(tmp_path).images) == 2


def foreign(path: Path) -> Path:
    """The file under a name in Latin-1."""
    return path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.png"))


def test_a_name_that_is_not_utf_8_is_named(tmp_path):
    foreign(picture(tmp_path / "a" / "b.png"))
    with pytest.raises(DataError, match=r"/a/caf\\xe9\.png: its name is not UTF-8.*rename it"):
        folders.list_images(tmp_path)
    (tmp_path / "a").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xfc"))
    with pytest.raises(DataError, match=r"/\\xfc/caf\\xe9\.png: its name"):
        folders.list_images(tmp_path)
    with pytest.raises(DataError, match=r"'caf\\udce9': not UTF-8"):
        digest("caf\udce9")


def test_a_summary_says_how_many_why_and_which():
    left_out = {"hidden": [f"{n}.png" for n in range(1200)], "clips": [Path("a/caf\udce9.mp4")]}
    expected = r"1,201 not read: 1,200 hidden (0.png, 1.png, 2.png, ...), 1 clips (a/caf\xe9.mp4)"
    assert folders.summarise(left_out) == expected
    assert folders.summarise({}) == folders.summarise({"clips": []}) == ""


def test_a_native_folder_refuses_what_its_authors_did_not_put_there(tmp_path):
    kept = picture(tmp_path / "a.png")
    picture(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    assert layout.list_images(tmp_path) == [kept]
    below = picture(tmp_path / "more" / "b.png")
    assert layout.list_images(tmp_path, recursive=True) == [kept, below]
    with pytest.raises(DataError, match=r"more/b\.png: an image in a folder below .* \(1 such\)"):
        layout.list_images(tmp_path)
    with barred(below.parent), pytest.raises(DataError, match=r"1 a folder that cannot be entered.*make them readable"):
        layout.list_images(tmp_path)
    below.rename(tmp_path / "b.heic")
    with pytest.raises(DataError, match=r"1 of an image format that is not read \(.*b\.heic\)"):
        layout.list_images(tmp_path)
