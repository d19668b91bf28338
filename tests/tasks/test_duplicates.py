"""Near-duplicates: altered copies are found, other images are not, and groups are joined by them."""

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tasks import duplicates
from tasks.base import DataError
from tasks.duplicates import scan_grouped
from tasks.ultrasound.busi import TASK as BUSI
from tests.layouts import busi

NEAR = replace(BUSI, near=True)


def _texture(seed: int, side: int = 256) -> Image.Image:
    """Coloured blobs at several scales, unlike those of any other seed."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(side, side, 3)), (s, s, 0)) * s for s in (2, 4, 8, 24)]
    image = sum(layers) * 60 + rng.uniform(90, 165, 3)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def _look(images) -> duplicates.Look:
    side = duplicates.PIXELS
    pixels = np.stack([np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)) for image in images])
    return duplicates.Look(pixels, duplicates._hashes(pixels), np.arange(len(pixels)))


def _recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.resize((180, 180)).save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


def _annotated(image: Image.Image) -> Image.Image:
    marked = np.asarray(image).copy()
    for row, column in ((60, 80), (150, 200)):
        marked[row - 6 : row + 7, column] = marked[row, column - 6 : column + 7] = 255
    return Image.fromarray(marked)


ALTERED = {
    "recompressed": _recompressed,
    "annotated": _annotated,
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.1 + 8))),
    "cropped": lambda image: image.crop((4, 3, 252, 254)),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_copy_is_found_among_other_images(kind):
    images = [_texture(seed) for seed in range(30)]
    seen = _look([*images, ALTERED[kind](images[7])])
    every = np.arange(31)
    assert duplicates.find_copies(seen, every).tolist() == [[7, 30]]
    other = _look([ALTERED[kind](images[7])])
    assert duplicates.find_copies(seen, every[:30], other, np.array([0])).tolist() == [[7, 0]]


def test_alike_hashes_of_unlike_images_are_not_enough(monkeypatch):
    seen = _look([_texture(seed) for seed in range(6)])
    seen = seen._replace(codes=np.zeros(6, np.uint64))
    every = np.arange(6)
    assert len(duplicates.find_copies(seen, every)) == 0
    monkeypatch.setattr(duplicates, "CORRELATION", -1.0)
    assert len(duplicates.find_copies(seen, every)) == 15


def test_pairs_are_the_same_however_many_are_compared_at_once(monkeypatch):
    images = [_texture(seed) for seed in range(5)]
    seen = _look([*images, *(_recompressed(image) for image in images[::2])])
    colours = np.stack([duplicates._colours(image) for image in seen.pixels])
    neighbours = duplicates._neighbours(colours)
    for compared in (1, 20, 10**6):
        monkeypatch.setattr(duplicates, "COMPARED", compared)
        assert duplicates.find_copies(seen, np.arange(8)).tolist() == [[0, 5], [2, 6], [4, 7]]
        assert duplicates._neighbours(colours) == neighbours


def test_memory_does_not_grow_with_the_square_of_the_images():
    """All pairs at once, or a fixed number of rows, would take gigabytes."""
    count = 200_000
    codes = np.random.default_rng(0).integers(0, 2**63, count).astype(np.uint64)
    seen = duplicates.Look(np.broadcast_to(np.uint8(0), (count, 1, 1, 3)), codes, np.arange(count))
    tracemalloc.start()
    assert len(duplicates.find_copies(seen, np.arange(1000), seen, np.arange(count))) == 0  # one colour is like nothing
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * duplicates.COMPARED


def _zoomed(image: Image.Image, angle: float) -> Image.Image:
    turned = image.rotate(angle, Image.Resampling.BICUBIC)
    return turned.crop((36, 36, 220, 220)).resize(image.size, Image.Resampling.BICUBIC)


TURNED = {
    "turned a little": lambda image: _zoomed(image, 17),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned and mirrored": lambda image: _zoomed(image, -23).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def test_turned_mirrored_and_zoomed_copies_are_found_and_nothing_else():
    images = [_texture(seed) for seed in range(20)]
    copies = [alter(images[place]) for place, alter in enumerate(TURNED.values())]
    seen = _look([*images, *copies])
    assert duplicates.find_turned(seen.pixels).tolist() == [[place, 20 + place] for place in range(len(copies))]
    assert len(duplicates.find_copies(seen, np.arange(24))) == 0  # and hashes alone miss them


def test_a_transform_that_shrinks_an_image_to_a_point_is_no_match():
    import cv2

    points = [cv2.KeyPoint(x=float(x), y=float(x * 7 % 90), size=3.0) for x in range(0, 100, 4)]
    same = [cv2.KeyPoint(x=40.0, y=40.0, size=3.0)] * len(points)
    features = np.eye(len(points), 128, dtype=np.float32)
    assert duplicates._inliers((points, features), (same, features)) == 0
    assert duplicates._inliers((points, features), (points, features)) == len(points)


def test_groups_are_joined_and_named_after_their_first_member():
    groups = ["d", "b", "a", "c", "b", "e"]
    pairs = np.array([[0, 1], [4, 3]])  # d-b, b-c
    assert duplicates.join_groups(groups, pairs) == ["b", "b", "a", "b", "b", "e"]
    assert duplicates.join_groups(groups, np.empty((0, 2), np.int64)) == groups


@pytest.fixture
def data(tmp_path):
    """BUSI with a recompressed copy under another class, and an unreadable file."""
    busi.write(tmp_path / "data")
    (tmp_path / "data" / "groups.csv").unlink()
    top = tmp_path / "data" / "Dataset_BUSI_with_GT"
    _texture(1).save(top / "benign" / "benign (6).png")
    _recompressed(_texture(1)).save(top / "malignant" / "malignant (9).png")
    (top / "normal" / "normal (2).png").write_bytes(b"")
    return tmp_path / "data"


def test_a_task_without_patients_has_its_near_duplicates_in_one_group(data, monkeypatch):
    samples = scan_grouped(NEAR, data, data.parent / "cache")
    assert [sample[:2] for sample in samples] == [sample[:2] for sample in BUSI.scan(data)]
    group = {sample.id.rpartition("/")[2]: sample.group for sample in samples}
    assert group["malignant (9).png"] == group["benign (6).png"] == "Dataset_BUSI_with_GT/benign/benign (6).png"
    assert len(set(group.values())) == busi.IMAGES - 1

    def never(*_):
        raise AssertionError("looked at again")

    monkeypatch.setattr(duplicates, "_hashes", never)
    assert scan_grouped(NEAR, data, data.parent / "cache") == samples


def test_too_many_images_to_compare_are_refused_with_the_remedy(data, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 100)
    with pytest.raises(DataError, match="39 images are too many to compare each with each; give the dataset groups"):
        scan_grouped(NEAR, data, data.parent / "cache")
