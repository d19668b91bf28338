"""Near-duplicate images: recompressed, resized, slightly cropped or re-annotated copies, and turned or mirrored ones.

Two looks, each as a candidate rule and a confirmation:

`find_copies`: perceptual hashes (DCT of 32 x 32 grey values, 64 bits; ImageHash) at most `HASH_BITS` apart, and a
correlation of the 32 x 32 grey images of at least `CORRELATION`. Finds no rotation and no mirroring.

`find_turned`: among the `NEIGHBOURS` nearest by colour histogram, those with at least `INLIERS` SIFT keypoints (Lowe,
IJCV 2004; OpenCV) of the image or of its mirror image on one similarity transform. Finds copies under any rotation,
mirroring and zoom, such as augmented histology tiles; its cost is seconds per hundred images.

Both are deterministic, and both can be wrong either way: images joined wrongly only make groups larger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import store
from tasks.base import DataError, Sample, Source, Task, digest

VERSION = 1  # of the rules: cached pairs of another version are not read
PIXELS = 128  # side of the stored images that are compared
HASH_BITS, CORRELATION = 8, 0.90  # on BUSI they find all 173 pairs that people have listed
GREY = 32  # side of the grey images
COMPARED = 2**23  # pairs compared at once: 9 bytes each
MOST_PAIRS = 1e10  # comparisons of hashes; beyond it, `find_copies` is not looked for
NEIGHBOURS, INLIERS, LOWE = 20, 8, 0.8
KEYPOINTS = 200  # of an image
ZOOM = 2.0  # at most, either way: a transform that shrinks an image to a point matches anything


class Look(NamedTuple):
    """What is compared of a list of samples."""

    pixels: np.ndarray  # uint8 (rows, PIXELS, PIXELS, 3), memory-mapped
    codes: np.ndarray  # uint64 (rows,): perceptual hashes
    rows: np.ndarray  # (samples,): the row of each sample, -1 if it is unreadable


def hash_images(source: Source, data: Path, samples: list[Sample], cache: Path) -> Look:
    """Decode the samples at PIXELS and hash them; both are kept in the cache by content."""
    built = store.build(source, data, samples, PIXELS, cache / "stores", skip_unreadable=True)
    row = {name: i for i, name in enumerate(built.ids)}
    codes = _kept(cache, built.address, lambda: _hashes(built.pixels), "hash", PIXELS)
    return Look(built.pixels, codes, np.array([row.get(sample.id, -1) for sample in samples]))


def find_copies(
    one: Look, which: np.ndarray, other: Look | None = None, others: np.ndarray | None = None
) -> np.ndarray | None:
    """Pairs (P, 2) of near-duplicates: a position in `which` samples of one look, and one in `others` of the other.

    With one side alone: pairs i < j within it.

    None where that would take more than `MOST_PAIRS` comparisons.
    """
    within = other is None
    if within:
        other, others = one, which
    which, others = which[one.rows[which] >= 0], others[other.rows[others] >= 0]
    if len(which) * len(others) > MOST_PAIRS:
        return None
    codes, targets = one.codes[one.rows[which]], other.codes[other.rows[others]]
    found, waiting = [np.empty((0, 2), np.int64)], []
    rows = max(1, COMPARED // max(1, len(targets)))
    for start in range(0, len(codes), rows):
        i, j = np.nonzero(np.bitwise_count(codes[start : start + rows, None] ^ targets[None]) <= HASH_BITS)
        pairs = np.stack([which[start + i], others[j]], axis=1)
        waiting.append(pairs[pairs[:, 0] < pairs[:, 1]] if within else pairs)
        if sum(map(len, waiting)) >= COMPARED // 8:
            found.append(_confirmed(one, other, np.concatenate(waiting)))
            waiting = []
    return np.concatenate([*found, *(_confirmed(one, other, pairs) for pairs in waiting)])


def _confirmed(one: Look, other: Look, pairs: np.ndarray) -> np.ndarray:
    """Those of the candidates (P, 2) whose grey images correlate."""
    first, second = (_greys(side, column) for side, column in ((one, pairs[:, 0]), (other, pairs[:, 1])))
    alike = [float(first[i] @ second[j]) >= CORRELATION for i, j in pairs.tolist()]
    return pairs[np.array(alike, bool)]


def _hashes(pixels: np.ndarray) -> np.ndarray:
    import imagehash
    from PIL import Image

    return np.array([int(str(imagehash.phash(Image.fromarray(image))), 16) for image in pixels], np.uint64)


def _greys(side: Look, samples: np.ndarray) -> dict[int, np.ndarray]:
    """Unit vectors (GREY²,) of the zero-mean grey images of these samples."""
    from PIL import Image

    made = {}
    for sample in np.unique(samples).tolist():
        picture = Image.fromarray(side.pixels[side.rows[sample]]).convert("L")
        grey = np.asarray(picture.resize((GREY, GREY), Image.Resampling.BOX), np.float32).ravel()
        grey = grey - grey.mean()
        made[sample] = grey / max(float(np.linalg.norm(grey)), 1e-6)
    return made


def _kept(cache: Path, address: str, compute: Callable[[], np.ndarray], *rules: object) -> np.ndarray:
    """The array of that store under these rules, computed once."""
    file = cache / "duplicates" / f"{address}-{digest(VERSION, *rules)[:8]}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.stem}-{os.getpid()}.npy")
        np.save(part, compute())
        part.replace(file)
    return np.load(file, allow_pickle=False)


def find_turned(pixels: np.ndarray) -> np.ndarray:
    """Index pairs (P, 2), i < j, of images that a rotation, mirroring and zoom bring onto each other."""
    import cv2
    from tqdm import tqdm

    near = _neighbours(np.stack([_colours(image) for image in pixels]))
    sift = cv2.SIFT_create(nfeatures=KEYPOINTS)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pixels]
    points = [sift.detectAndCompute(image, None) for image in tqdm(grey, desc="keypoints", unit=" images")]
    mirrored = [sift.detectAndCompute(np.ascontiguousarray(image[:, ::-1]), None) for image in grey]
    found = [
        (i, j)
        for i, j in tqdm(near, desc="comparing", unit=" pairs")
        if max(_inliers(points[i], points[j]), _inliers(points[i], mirrored[j])) >= INLIERS
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _colours(image: np.ndarray) -> np.ndarray:
    """Square roots of a joint Lab histogram, (1200,): their scalar product is the Bhattacharyya coefficient."""
    import cv2

    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.COLOR_RGB2LAB)
    ranges = [0, 256, 110, 200, 80, 160]
    histogram = cv2.calcHist([lab], [0, 1, 2], None, [12, 10, 10], ranges)
    return np.sqrt(histogram.ravel() / max(histogram.sum(), 1.0))


def _neighbours(features: np.ndarray) -> list[tuple[int, int]]:
    """Pairs i < j of which one is among the other's nearest."""
    pairs: set[tuple[int, int]] = set()
    rows = max(1, COMPARED // max(1, len(features)))
    for start in range(0, len(features), rows):
        alike = features[start : start + rows] @ features.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -1.0
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(features) - 1)]
        pairs.update((min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist(), start) for j in row)
    return sorted(pairs)


def _inliers(one: tuple, other: tuple) -> int:
    """Keypoints of one image that a single similarity transform brings onto their matches in the other.

    None, if the transform zooms by more than `ZOOM`.
    """
    import cv2

    (points, features), (others, targets) = one, other
    if features is None or targets is None or len(targets) < 2:
        return 0
    nearest = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, targets, k=2)
    matches = [best for best, second in nearest if best.distance < LOWE * second.distance]
    if len(matches) < INLIERS:
        return 0
    start = np.array([points[m.queryIdx].pt for m in matches], np.float32)
    end = np.array([others[m.trainIdx].pt for m in matches], np.float32)
    cv2.setRNGSeed(0)
    turn, inside = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=3.0, confidence=0.99)
    if turn is None or not 1 / ZOOM <= np.hypot(turn[0, 0], turn[1, 0]) <= ZOOM:
        return 0
    return int(inside.sum())


def find_pairs(source: Source, data: Path, samples: list[Sample], cache: Path, *, rotated: bool = False) -> np.ndarray:
    """Pairs (P, 2), i < j, of positions of near-duplicates among the samples; with `rotated`, turned ones as well.

    Raises DataError where there are too many images to compare each with each.
    """
    seen = hash_images(source, data, samples, cache)
    pairs = find_copies(seen, np.arange(len(samples)))
    if pairs is None:
        raise DataError(
            f"{source.modality}/{source.name}: {len(samples):,} images are too many to compare each with each; "
            "give the dataset groups (patients, slides) instead"
        )
    if rotated:
        address = store.address(source, samples, PIXELS)
        rules = (NEIGHBOURS, INLIERS, LOWE, KEYPOINTS, ZOOM)
        found = _kept(cache, address, lambda: find_turned(seen.pixels), "turned", PIXELS, *rules)
        sample = np.empty(len(seen.pixels), np.int64)
        sample[seen.rows[seen.rows >= 0]] = np.flatnonzero(seen.rows >= 0)
        pairs = np.unique(np.concatenate([pairs, np.sort(sample[found], axis=1)]), axis=0)
    return pairs


def join_groups(groups: Sequence[str], pairs: np.ndarray) -> list[str]:
    """The groups after joining those that a pair connects, each named after the first of its members in name order."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, member = np.unique(np.asarray(groups), return_inverse=True)
    edges = member[pairs]
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    first = np.full(component.max() + 1, len(names))
    np.minimum.at(first, component, np.arange(len(names)))
    return names[first[component[member]]].tolist()


def scan_grouped(task: Task, data: Path, cache: Path) -> list[Sample]:
    """The task's samples in the order of its scan; near-duplicates are joined into groups where no patient is known.

    The first call for new images decodes them; later ones are quick. Raises NoData or DataError as the scan does.
    """
    samples = task.scan(data)
    if not task.near:
        return samples
    groups = join_groups([sample.group for sample in samples], find_pairs(task, data, samples, cache))
    return [sample._replace(group=group) for sample, group in zip(samples, groups, strict=True)]
