"""What is timed and weighed on our side: the optimiser step of a recipe, its data, the machine's matrix product."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

import tasks
from benchmark import corpus, tracks
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Corpus, EncoderSpec, Recipe, Runtime
from benchmark.training import data, modes, optimise
from benchmark.training.data import Batches, Images

PRETEXTS = ("mae", "ijepa", "dinov3")
PROGRESS = 0.5  # share of training at which a step is timed
NOISE = Corpus(name="noise", members=(("noise", 1),), digest="0" * 12, images=0)


class Size(NamedTuple):
    track: str
    encoder: EncoderSpec
    batch: int  # images, for comparisons on a CPU


SIZES = {
    "nano": Size("smoke", tracks.NANO, 8),
    "micro": Size("demo", tracks.MICRO, 64),
    "Ti": Size("1e16", tracks.TINY, 8),
    "S": Size("1e17", tracks.SMALL, 4),
    "B": Size("1e18", tracks.BASE, 2),
}


def make_recipe(
    size: str, pretext: str, *, batch: int | None = None, precision: str = "fp32", steps: int = 1
) -> Recipe:
    """The recommended recipe of a pretext at a size, but for its batch and a budget of that many steps."""
    made = tracks.recipe(
        SIZES[size].track, pretext, modality="histo", corpus=NOISE, policy="crop", seed=0, precision=precision
    )
    made = replace(made, settings=replace(made.settings, batch=batch or SIZES[size].batch))
    return replace(made, budget=(steps + 0.5) * made.settings.batch * tracks.image_flops(made))


def make_noise(count: int, pixels: int) -> Images:
    """Images of coarse random tiles, in memory."""
    tiles = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    images = tiles.repeat(pixels // 8, axis=1).repeat(pixels // 8, axis=2)
    return Images([f"noise/{i}" for i in range(count)], [images], np.indices((1, count)).reshape(2, -1).T, ())


def write_phantoms(folder: Path, count: int, side: int) -> Path:
    """A folder with `count` JPEG files of simulated histology in two classes; 16 scenes, shifted from file to file."""
    source = tasks.get("histo", "phantom_local")
    scenes = [source.read(folder, sample, side) for sample in source.scan(folder)[:16]]
    top = folder / f"{count} files of {side} pixels"
    for number in range(0 if top.exists() else count):
        target = top / ("even", "odd")[number % 2] / f"{number:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(scenes[number % 16], 8 * number, axis=1)).save(target, quality=95)
    return top


def decode(folder: Path, recipe: Recipe, cache: Path) -> tuple[Images, float]:
    """(the images of a folder out of our store, seconds that decoding them took)."""
    place = Runtime(data=folder, results=cache, cache=cache)
    start = time.perf_counter()
    pinned = corpus.resolve(recipe.modality, f"folder:{folder.resolve()}", folder, cache)
    return data.open_images(pinned.members, recipe, place), time.perf_counter() - start


class Trainer(NamedTuple):
    """One recipe, ready to run."""

    model: Pretext
    views: Callable[[int], dict]  # step -> batch, crops and masks, as the training loop makes them
    step: Callable[[dict], torch.Tensor]  # views -> loss, after one whole optimiser step


def make_trainer(recipe: Recipe, images: Images, device: torch.device, mode: str = "eager") -> Trainer:
    """The body of `loop.train` on one process, without log and checkpoint. mode: see `modes`."""
    model = optimise.build_model(recipe, images).to(device)
    optimiser = optimise.build_optimiser(model)
    batches = Batches(images, recipe, model.draw, device)
    modes.accelerate(model, mode)
    model.train()

    def step(views: dict) -> torch.Tensor:
        optimise.set_schedules(optimiser, model, PROGRESS)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = model(views, PROGRESS).loss
        loss.backward()
        optimise.clip(model)
        optimiser.step()
        optimiser.zero_grad()
        model.after_step(PROGRESS)
        return loss.detach()

    return Trainer(model, lambda number: model.views(*batches(number)[:2]), step)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    *works: Callable[[], object], rounds: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median seconds of each piece of work, all taking turns; the first round of each is not counted.

    clock: `time.process_time`, blind to other processes, tells more on a busy machine where no worker helps.
    """
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, times in zip(works, taken, strict=True):
            synchronise(device)
            start = clock()
            work()
            synchronise(device)
            if number:
                times.append(clock() - start)
    return [median(times) for times in taken]


@cache
def measure_product(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter, side: int = 0
) -> float:
    """FLOPs per second of a large matrix product, fp32 without TF32 by the rule of `arithmetic`; the best of three."""
    side = side or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(4):
        synchronise(device)
        start = clock()
        a @ b
        synchronise(device)
        times.append(clock() - start)
    return 2 * side**3 / min(times)
