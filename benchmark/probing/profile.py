"""What a dataset is like before any encoder is pretrained for it: size, groups, noise, floor, locality."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from benchmark.probing import baselines
from benchmark.recipe import Runtime
from benchmark.storage import results
from benchmark.study import TaskData
from tasks import store

WINDOW = 4  # pixels: side of the windows that noise is measured in
DARK = 10  # grey level under which a window is background
IMAGES = 500  # that noise is measured on, at most


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Of neighbouring pixels, as encoders see the images."""

    level: float  # standard deviation in the calmer half of the windows, of grey levels in [0, 1]
    growth: float  # exponent of its growth with brightness: 0 for additive noise, 1 for speckle (multiplicative)


@dataclass(frozen=True, kw_only=True)
class Profile:
    modality: str
    task: str
    title: str
    images: int
    labelled: tuple[tuple[str, int], ...]  # (class, images)
    groups: int
    group_kind: str
    independent: bool  # groups are patients or slides
    noise: Noise
    floors: tuple[tuple[str, float], ...]  # (baseline, headline metric on the test part)
    metric: str
    locality: float | None  # None: the whole image says too little
    low: float | None  # 95 % interval
    high: float | None
    local: float  # AUROC of a reader of an eighth of the side
    full: float  # AUROC of a reader of the whole image


def measure_noise(images: np.ndarray) -> Noise:
    """Of uint8 images (N, S, S, 3), from differences of neighbours, which edges touch less than values.

    The growth is Theil and Sen's slope of the logarithm of a window's noise over that of its brightness.
    """
    chosen = images[np.linspace(0, len(images) - 1, min(IMAGES, len(images))).astype(int)]
    grey = chosen.mean(axis=-1)
    apart = np.diff(grey, axis=2)[:, :, ::2] / np.sqrt(2)
    side = grey.shape[1] // WINDOW * WINDOW
    level = grey[:, :side, :side].reshape(len(grey), side // WINDOW, WINDOW, side // WINDOW, WINDOW).mean((2, 4))
    noise = apart[:, :side, : side // 2].reshape(len(grey), side // WINDOW, WINDOW, side // WINDOW, WINDOW // 2)
    noise = np.sqrt((noise**2).mean((2, 4)))
    shown = (level > DARK) & (level < 255 - DARK) & (noise > 0)
    if not shown.any():
        return Noise(level=0.0, growth=0.0)
    bright, spread = level[shown], noise[shown]
    calm = float(np.median(np.sort(spread)[: max(1, len(spread) // 2)]) / 255)
    some = np.random.default_rng(0).permutation(len(spread))[:1000]
    varied = np.ptp(np.log(bright[some])) > 0
    growth = float(stats.theilslopes(np.log(spread[some]), np.log(bright[some]))[0]) if varied else 0.0
    return Noise(level=calm, growth=growth)


def measure(found: TaskData, built: store.Store, located: dict[str, object], runtime: Runtime) -> Profile:
    """The profile of a task. built: its images at the size that they are probed at; located: its row of the table
    `locality`. Baselines are stored under `runtime.results`."""
    task, samples = found.task, found.samples
    baselines.measure(task, samples, built, runtime)
    rows = results.read(runtime.results, "baselines")
    rows = rows[rows["task"].eq(task.name) & rows["data"].eq(found.identity) & rows["headline"]]
    rows = rows[rows["pixels"].eq(built.pixels.shape[1])]
    counts = np.bincount([sample.label for sample in samples if sample.label >= 0], minlength=len(task.classes))
    return Profile(
        modality=task.modality,
        task=task.name,
        title=task.title,
        images=len(samples),
        labelled=tuple(zip(task.classes, counts.tolist(), strict=True)),
        groups=len({sample.group for sample in samples if sample.label >= 0}),
        group_kind=task.group_kind,
        independent=task.independent,
        noise=measure_noise(built.pixels),
        floors=tuple(sorted(zip(rows["baseline"], rows["value"], strict=True))),
        metric=task.metric,
        **{name: located[key] for name, key in (("locality", "value"), *((n, n) for n in ("low", "high")))},
        local=located["local"],
        full=located["full"],
    )


def describe(profile: Profile) -> str:
    """In lines."""
    noise = profile.noise
    kind = "grows with brightness, as speckle does" if noise.growth > 0.5 else "hardly grows with brightness"
    reached = f"AUROC {profile.local:.3f} from an eighth of the side, {profile.full:.3f} from all of it"
    local = "omitted" if profile.locality is None else f"{profile.locality:.2f} [{profile.low:.2f}, {profile.high:.2f}]"
    labels = ", ".join(f"{name} {count:,}" for name, count in profile.labelled)
    floors = ", ".join(f"{name} {value:.3f}" for name, value in profile.floors)
    return "\n".join(
        (
            f"{profile.modality}/{profile.task}: {profile.title}",
            f"  size      {profile.images:,} images ({labels})",
            f"  groups    {profile.groups:,} ({profile.group_kind})",
            f"  noise     {noise.level:.3f} of the grey range; it {kind} (exponent {noise.growth:.2f})",
            f"  floor     {floors} ({profile.metric}, without an encoder)",
            f"  locality  {local}: {reached}",
        )
    )


def as_json(profile: Profile) -> str:
    """What `python -m leaderboards advise` reads."""
    kept = ("modality", "title", "locality", "groups", "independent")
    return json.dumps({name: value for name, value in asdict(profile).items() if name in kept})
