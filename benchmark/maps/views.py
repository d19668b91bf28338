"""What a pretext sees of an image, drawn by the code that draws it in training: crops, visible patches, blocks.

Draw i is the image in epoch i, at the head of the batch of step i. What is drawn for the image depends on seed, epoch
and its id alone, as in any training; what is drawn for a whole batch (the size of I-JEPA's blocks, which crops DINOv3
masks) on seed and step. A file has the id that it has in the corpus `folder:` of the folder it lies in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import tasks
from benchmark import corpus, registry, tracks
from benchmark.recipe import Corpus, Recipe
from benchmark.training import optimise
from benchmark.training.data import Batches, Images
from tasks import host, sources
from tasks.base import DataError, Sample, Source
from tasks.reading import folders, squares

GREY, FADED = 200, 0.3  # grey level of a hidden patch; contrast that a patch keeps which is in no target block
ACROSS = 4  # local crops in a line


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One draw of one image."""

    views: dict[str, np.ndarray]  # what the pretext's `forward` takes, for a batch of this image alone
    boxes: dict[str, np.ndarray]  # purpose of crops -> (K, 4) left, top, right, bottom, as shares of the image's side
    patch: int  # side, in pixels of a crop


class Tile(NamedTuple):
    caption: str
    pixels: np.ndarray  # uint8 (h, w, 3), as the encoder gets them
    blocks: Sequence[tuple[int, int, int, int]] = ()  # left, top, right, bottom in pixels


def find_image(image: str, modality: str, policy: str, data: Path) -> tuple[Source, Sample]:
    """A file, or TASK/ID of a dataset under data; policy: how it is squared, "" as its source says. Raises ValueError
    for an unknown modality or policy, DataError where there is no such image."""
    known = tasks.names(modality)
    if policy not in ("", *squares.SQUARES):
        raise tasks.unknown("policy", policy, squares.SQUARES)
    path = host.path(image).absolute()
    if folders.is_file(path):
        source = sources.open(f"folder:{path.parent}", modality)
        sample = Sample(folders.relative_id(path, path.parent), -1, "", "", "train")
        return replace(source, policy=policy or source.policy), sample
    name, _, wanted = image.partition("/")
    if name not in known:
        raise DataError(
            f"{image}: no image file, and no TASK/ID of {modality} (--modality); give a file, or an image of a task, "
            "such as phantom_local/train/p00000/0"
        )
    task = corpus.get(modality, name, policy)
    samples = task.scan(data)
    for sample in samples:
        if sample.id == wanted:
            return task, sample
    raise DataError(f"{image}: {name} has no image {wanted!r}; the first of its ids is {samples[0].id!r}")


def make_recipe(pretext: str, track: str, source: Source, seed: int) -> Recipe:
    """Of a training on the source's images. Raises ValueError for an unknown pretext, arm or track."""
    about = Corpus(name=source.name, members=((source.name, source.version),), digest="", images=0)
    policy = squares.describe_policy(source.policy)
    return tracks.recipe(track, pretext, modality=source.modality, corpus=about, policy=policy, seed=seed)


def read_square(source: Source, sample: Sample, data: Path, pixels: int) -> np.ndarray:
    """The image as a store holds it, uint8 (pixels, pixels, 3). Raises DataError for one that cannot be read."""
    return squares.to_square(source.read(data, sample, pixels), pixels, source.policy)


@torch.no_grad()
def look(made: Recipe, name: str, image: np.ndarray, draws: int) -> list[Seen]:
    """What a training by that recipe sees of a stored image, uint8 (S, S, 3), in its first epochs, one for each draw.
    name: "source/sample id"."""
    batch = made.settings.batch
    images = Images([name] * batch, [image[None]], np.zeros((batch, 2), int), ())  # an epoch is a batch of this image
    model = optimise.build_model(made, images)
    batches = Batches(images, made, model.draw, torch.device("cpu"), world=batch)  # and its head a process of its own
    found = []
    for step in range(draws):
        pixels, drawn, _ = batches(step)
        seen = {name: value.numpy() for name, value in model.views(pixels, drawn).items()}
        cuts = {key.removesuffix("/axes"): value.numpy() for key, value in drawn.items() if key.endswith("/axes")}
        boxes = {key: find_boxes(axes) for key, axes in cuts.items()}
        found.append(Seen(views=seen, boxes=boxes, patch=made.encoder.patch))
    return found


def find_boxes(axes: np.ndarray) -> np.ndarray:
    """(2, 1, K, 2), start and extent of the crops of an image along x and y, negative where mirrored -> (K, 4) left,
    top, right, bottom."""
    ends = np.stack([axes[:, 0, :, 0], axes[:, 0].sum(axis=-1)])  # (2, 2, K): the ends of x and of y
    return np.concatenate([ends.min(axis=0), ends.max(axis=0)]).T


def make_tiles(seen: Seen) -> list[list[Tile]]:
    """Lines of pictures of a draw, by what is among the views of its pretext."""
    views, patch = seen.views, seen.patch
    if "globals" in views:
        whole, local = _to_pictures(views["globals"]), _to_pictures(views["locals"])
        hidden = views.get("hidden", np.zeros((len(whole), _count_patches(views["globals"], patch)), bool))
        first = [
            Tile(f"global {i}, {f'{there.sum()} hidden' if there.any() else 'whole'}", _hide(picture, ~there, patch))
            for i, (picture, there) in enumerate(zip(whole, hidden, strict=True), 1)
        ]
        others = [Tile(f"local {i}", picture) for i, picture in enumerate(local, 1)]
        return [first, *(others[i : i + ACROSS] for i in range(0, len(others), ACROSS))]
    (image,) = _to_pictures(views["images"])
    shown = _hide(image, find_visible(seen), patch)
    if "targets" not in views:
        return [[Tile("crop", image), Tile("visible patches", shown)]]
    blocks = _mark(views["targets"][0], _count_patches(views["images"], patch))
    faded = _hide(image, blocks.any(axis=0), patch, FADED)
    return [[Tile("context", shown), Tile("target blocks", faded, [_find_corners(block, patch) for block in blocks])]]


def find_visible(seen: Seen) -> np.ndarray:
    """(N,) bool: which patches of the crop the trained encoder sees; all, of a pretext that hides none."""
    views, count = seen.views, _count_patches(seen.views["images"], seen.patch)
    for name in ("keep", "context"):
        if name in views:
            return _mark(views[name], count)[0]
    return ~views["hidden"][0] if "hidden" in views else np.ones(count, bool)


def describe(draws: Sequence[Seen]) -> str:
    """What is seen, in words and numbers of these draws."""
    views, patch = draws[0].views, draws[0].patch
    if "globals" in views:
        return f"{_describe_crops(draws, 'globals')}, {_describe_crops(draws, 'locals')}; {_describe_hidden(draws)}"
    (kind,) = draws[0].boxes
    crops = f"in crops of {_describe_area(draws, kind)} of the image at {views['images'].shape[-1]} px"
    count = _count_patches(views["images"], patch)
    shown = [int(find_visible(seen).sum()) for seen in draws]
    share = f"{_format_range(round(100 * some / count) for some in shown)} %"
    if "targets" not in views:
        return f"{_format_range(shown)} of {count} patches visible ({share}), {crops}"
    blocks, sizes = views["targets"].shape[1], _format_range(seen.views["targets"].shape[2] for seen in draws)
    context = f"context {_format_range(shown)} of {count} patches ({share})"
    return f"{context}, {blocks} target blocks of {sizes} patches, {crops}"


def name_pretext(pretext: str) -> str:
    """The name of "name" or "name:arm" for people, with which its file begins."""
    name, _, arm = pretext.partition(":")
    word = (registry.load("pretexts", name).__doc__ or name).partition(":")[0]
    return f"{word} ({arm})" if arm else word


def _to_pictures(images: np.ndarray) -> list[np.ndarray]:
    """(K, 3, h, w) in [0, 1] -> K pictures uint8 (h, w, 3)."""
    return list((images * 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def _count_patches(images: np.ndarray, patch: int) -> int:
    return (images.shape[-1] // patch) ** 2


def _mark(index: np.ndarray, count: int) -> np.ndarray:
    """Rows of indices (R, M) -> (R, count) bool."""
    found = np.zeros((len(index), count), bool)
    np.put_along_axis(found, index, True, axis=1)
    return found


def _hide(picture: np.ndarray, shown: np.ndarray, patch: int, contrast: float = 0.0) -> np.ndarray:
    """The picture (h, w, 3), where patches that are not shown (N,) keep that much of their contrast to grey."""
    grid = len(picture) // patch
    there = shown.reshape(grid, grid).repeat(patch, axis=0).repeat(patch, axis=1)[..., None]
    return np.where(there, picture, (GREY + contrast * (picture.astype(float) - GREY)).round().astype(np.uint8))


def _find_corners(block: np.ndarray, patch: int) -> tuple[int, int, int, int]:
    """Of a rectangle of patches (N,) bool, in pixels."""
    rows, columns = np.divmod(np.flatnonzero(block), int(len(block) ** 0.5))
    return tuple(patch * int(x) for x in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))


def _describe_crops(draws: Sequence[Seen], kind: str) -> str:
    count, side = len(draws[0].boxes[kind]), draws[0].views[kind].shape[-1]
    return f"{count} {kind.removesuffix('s')} crops of {_describe_area(draws, kind)} of the image at {side} px"


def _describe_area(draws: Sequence[Seen], kind: str) -> str:
    sides = np.concatenate([seen.boxes[kind][:, 2:] - seen.boxes[kind][:, :2] for seen in draws])
    return f"{_format_range((100 * sides.prod(axis=1)).round().astype(int))} %"


def _describe_hidden(draws: Sequence[Seen]) -> str:
    masks = [mask for seen in draws for mask in seen.views.get("hidden", ())]
    some = [mask.sum() for mask in masks if mask.any()]
    if not some:
        return "no patch hidden"
    return f"{_format_range(some)} of {len(masks[0])} patches hidden in {len(some)} of {len(masks)} global crops"


def _format_range(values: Iterable[int]) -> str:
    found = list(values)
    low, high = min(found), max(found)
    return f"{low}" if low == high else f"{low} to {high}"
