"""Named tracks: an encoder, its pixels and a training budget. A track is a function of nothing; a recipe is a track, a
pretext and a seed. `<track>-images` gives every pretext the same number of images instead of the same FLOPs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmark import registry
from benchmark.device import machine
from benchmark.parts import rules
from benchmark.recipe import Corpus, EncoderSpec, Recipe, canonical
from tasks import unknown


@dataclass(frozen=True, kw_only=True)
class Track:
    encoder: EncoderSpec
    stored_pixels: int  # side of the stored squares that crops are cut from
    budget: float  # training FLOPs of one run
    seeds: int  # how many, unless SEEDS= says otherwise
    ceilings: int = 1  # seeds of the ceilings, unless CEILINGS= says otherwise
    purpose: str


NANO = EncoderSpec(width=64, depth=2, heads=2, patch=8, pixels=32)
MICRO = EncoderSpec(width=128, depth=4, heads=2, patch=8, pixels=64)
TINY = EncoderSpec(width=192, depth=12, heads=3, patch=16, pixels=224)
SMALL = EncoderSpec(width=384, depth=12, heads=6, patch=16, pixels=224)
BASE = EncoderSpec(width=768, depth=12, heads=12, patch=16, pixels=224)

TRACKS: dict[str, Track] = {
    "smoke": Track(encoder=NANO, stored_pixels=32, budget=3e10, seeds=1, purpose="seconds: does everything run"),
    "demo": Track(
        encoder=MICRO, stored_pixels=64, budget=2e12, seeds=1, purpose="all of it under 10 minutes on 2 cores"
    ),
    "laptop": Track(
        encoder=MICRO, stored_pixels=64, budget=2.5e13, seeds=5, purpose="about 45 minutes a seed on 2 cores"
    ),
    "1e14": Track(
        encoder=MICRO, stored_pixels=64, budget=1e14, seeds=5, purpose="a night on 2 cores, minutes on a GPU"
    ),
    "1e15": Track(encoder=MICRO, stored_pixels=64, budget=1e15, seeds=5, purpose="an evening on a GPU"),
    "1e16": Track(
        encoder=TINY, stored_pixels=256, budget=1e16, seeds=3, purpose="about an hour a run on a workstation"
    ),
    "1e17": Track(encoder=SMALL, stored_pixels=256, budget=1e17, seeds=3, purpose="one large GPU"),
    "1e18": Track(encoder=BASE, stored_pixels=256, budget=1e18, seeds=3, purpose="a node of large GPUs"),
}
MATCHED = "-images"
RECOMMENDED = "as recommended"
FP32_PIXELS = 64  # side of the images of tracks that train in fp32 on every device
PHANTOM_IMAGES = 20_700  # of the corpus of phantoms, for passes in the table


def names() -> tuple[str, ...]:
    return (*TRACKS, *(name + MATCHED for name in TRACKS))


def get(name: str) -> Track:
    """Raises ValueError, with the nearest match, for an unknown track."""
    if name not in names():
        raise unknown("track", name, names())
    return TRACKS[name.removesuffix(MATCHED)]


def default_precision(track: str, gpu: bool | None = None) -> str:
    """The precision of a track's training where nothing else is asked for: fp32 on every device up to FP32_PIXELS, so
    that seeds from a card and from a processor are one row; above, bf16 on a GPU.

    gpu: whether it trains on one; None: here, so torch is asked."""
    if get(track).encoder.pixels <= FP32_PIXELS:
        return "fp32"
    gpu = machine.device().gpus > 0 if gpu is None else gpu
    return "bf16" if gpu else "fp32"


def matched_images(track: Track) -> float:
    """Images each pretext gets on an image-matched track: as many as the costliest of the three sees at equal FLOPs."""
    return track.budget / max(flops_per_image(pretext, track.encoder) for pretext in ("mae", "ijepa", "dinov3"))


def flops_per_image(pretext: str, encoder: EncoderSpec) -> float:
    return registry.load("pretexts", pretext).flops(registry.settings(pretext, encoder), encoder)


def recipe(
    track: str, pretext: str, *, modality: str, corpus: Corpus, policy: str, seed: int, precision: str = "fp32"
) -> Recipe:
    """The recipe of one run of "name" or "name:arm". Raises ValueError for an unknown track, pretext or arm."""
    chosen, (name, _, arm) = get(track), pretext.partition(":")
    module = registry.load("pretexts", name)
    encoder = replace(chosen.encoder, cls=module.CLS, **getattr(module, "TRUNKS", {}).get(arm, {}))
    settings, budget = registry.settings(pretext, encoder), chosen.budget
    if track.endswith(MATCHED):
        budget = matched_images(chosen) * module.flops(settings, encoder)
    made = Recipe(
        modality=modality,
        track=track,
        corpus=corpus,
        pretext=name,
        pretext_version=module.VERSION,
        settings=settings,
        encoder=encoder,
        stored_pixels=chosen.stored_pixels,
        policy=policy,
        budget=budget,
        precision=precision,
        seed=seed,
    )
    return resolved(made)


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with what follows from the number of its steps, by `rules.resolve`. Raises ValueError if its budget
    pays for none."""
    return replace(recipe, settings=rules.resolve(recipe.settings, steps(recipe)))


def changes(pretext: str, track: str, settings: Mapping[str, object]) -> str:
    """How settings, as they are stored, differ from those that are recommended on a track; all of them, where it or the
    pretext is not known to this version."""
    corpus = Corpus(name="", members=(), digest="", images=0)
    try:
        made = recipe(track, pretext, modality="", corpus=corpus, policy="", seed=0)
        standard = json.loads(canonical(made.settings))
    except ValueError:
        standard = {}
    other = {name: value for name, value in sorted(settings.items()) if value != standard.get(name)}
    shown = {name: f"{value:.4g}" if isinstance(value, float) else json.dumps(value) for name, value in other.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or RECOMMENDED


def has_cls(pretext: str) -> bool | None:
    """Whether the cls token enters the blocks of its encoder; None where this version does not know it."""
    return registry.load("pretexts", pretext).CLS if pretext in registry.names("pretexts") else None


def image_flops(recipe: Recipe) -> float:
    """Training FLOPs per image of this very recipe."""
    return registry.load("pretexts", recipe.pretext).flops(recipe.settings, recipe.encoder)


def steps(recipe: Recipe) -> int:
    """Optimiser steps that the budget pays for. Raises ValueError if it pays for none."""
    if recipe.budget == 0:
        return 0
    count = int(recipe.budget // (image_flops(recipe) * recipe.settings.batch))
    if count == 0:
        raise ValueError(f"budget of {recipe.budget:.3g} FLOPs pays for no step of {recipe.pretext}; raise the budget")
    return count


def table() -> list[str]:
    """Markdown lines: every track, and for each default pretext on it the optimiser steps, the images it sees, and how
    often that is the whole corpus of phantoms."""
    pretexts = registry.defaults("pretexts")
    told = " | ".join(f"{name}: steps, images, passes" for name in pretexts)
    lines = [
        f"| track | encoder | pixels | training FLOPs | seeds | batch | {told} |",
        "|---" * (6 + len(pretexts)) + "|",
    ]
    corpus = Corpus(name="any", members=(), digest="", images=0)
    for name in names():
        track, e = get(name), get(name).encoder
        made = [recipe(name, p, modality="histo", corpus=corpus, policy="", seed=0) for p in pretexts]
        size = f"{e.width} × {e.depth}, {e.heads} heads, patch {e.patch}"
        budget = " / ".join(dict.fromkeys(f"{r.budget:.2g}" for r in made))
        batch = " / ".join(dict.fromkeys(str(r.settings.batch) for r in made))
        cells = [f"`{name}`", size, str(e.pixels), budget, str(track.seeds), batch]
        for r in made:
            images = steps(r) * r.settings.batch
            cells.append(f"{steps(r):,}, {images:,}, {images / PHANTOM_IMAGES:,.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
