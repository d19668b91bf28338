"""The identity of everything that is measured. Whatever can move a published number is in `Recipe`; whatever only
changes where and how fast it runs is in `Runtime`. No torch here: listing and planning stay light."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ENGINE = 3  # version of the shared parts: encoder, masks, losses, schedules, augment, data, pretrain, features

EXTERNAL = "external"  # in the place of a pretext in the tables: see `ExternalEncoder`


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """A plain ViT (timm's `VisionTransformer`): the trunk that every pretext trains and every probe reads.

    Raises ValueError for a size that cannot be built."""

    width: int  # token dimension D
    depth: int  # blocks
    heads: int  # attention heads
    patch: int  # patch side, pixels
    pixels: int  # image side, pixels
    cls: bool = True  # whether the cls token enters the blocks (I-JEPA leaves it out; its weights exist either way)
    trunk: str = (
        "common"  # positions: "common", fixed sine-cosine; "rope", rotary with LayerScale (DINOv3's own); "external"
    )
    registers: int = 0  # tokens beside cls that no readout sees

    def __post_init__(self) -> None:
        if self.trunk not in ("common", "rope", EXTERNAL):
            raise ValueError(f'unknown trunk "{self.trunk}": common or rope')
        if min(self.width, self.depth, self.heads, self.patch, self.pixels) < 1 or self.registers < 0:
            raise ValueError(f"sizes are positive whole numbers, got {self}")
        if self.external:
            return
        if self.pixels % self.patch:
            raise ValueError(f"{self.pixels} pixels are not a multiple of the patch side {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.width % 4:
            raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, got {self.width}")
        if self.trunk == "rope" and self.width // self.heads % 4:
            raise ValueError(f"rotary positions need heads of a multiple of 4, got {self.width // self.heads}")

    @property
    def external(self) -> bool:
        return self.trunk == EXTERNAL

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.pixels // self.patch

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches: cls and registers."""
        return self.cls + self.registers


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What an encoder is pretrained on: pinned, and identified by content."""

    name: str  # "phantom", "open" or "local"
    members: tuple[tuple[str, int], ...]  # (task, version) of every image source
    digest: str  # 12 hex digits over the digests of all images
    images: int  # how many


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW and its schedules, the part that every pretext's Settings share. Shares are of the optimiser steps."""

    batch: int  # images per optimiser step over all processes: their number is not part of the identity
    lr: float  # peak
    start_lr: float = 0.0  # at the first step of the linear warm-up
    end_lr: float = 0.0  # at the end of the cosine
    warmup: float = 0.1  # share of training
    weight_decay: float = 0.05  # at the start; never on biases and one-dimensional parameters
    end_weight_decay: float = 0.05  # at the end of a cosine from weight_decay
    beta2: float = 0.999  # beta1 is 0.9
    clip: float | None = None  # gradient norm per sub-module
    arm: str = ""  # a named variant of the pretext, such as "official"; "": the one we recommend


@dataclass(frozen=True, kw_only=True)
class Recipe:
    modality: str
    track: str
    corpus: Corpus
    pretext: str
    pretext_version: int
    settings: Optim | SimpleNamespace  # the pretext's own frozen Settings; as `from_json` reads them, of any version
    encoder: EncoderSpec
    stored_pixels: int  # side of the stored square image from which crops are taken
    policy: str  # how native images were brought to that square
    budget: float  # training FLOPs; 0 is the twin: the encoder this run starts from
    precision: str  # "fp32" or "bf16"
    seed: int
    skipped: tuple[str, ...] = ()  # ids of unreadable images left out with --skip-unreadable
    engine: int = ENGINE


@dataclass(frozen=True, kw_only=True)
class ExternalEncoder:
    """A frozen encoder from outside, or a table of embeddings: what is known of it.

    Stored as a recipe whose training is unknown: a budget of -1, and a trunk of one block with one patch an image."""

    name: str
    weights: str  # SHA-256 of what was read
    loaded: str  # what was read, and how, in words
    width: int  # numbers of a token
    pixels: int  # side of its images
    cls: bool  # whether a cls token is read
    floor: bool  # whether its architecture is probed untrained, too
    pretrained_on: tuple[str, ...] | None  # datasets, as declared; None: not told

    def recipe(self, *, modality: str, track: str, corpus: Corpus, stored_pixels: int, policy: str) -> Recipe:
        """corpus, policy: of the board that it is shown on."""
        sizes = {"width": self.width, "patch": self.pixels, "pixels": self.pixels, "cls": self.cls}
        settings = SimpleNamespace(
            arm=self.name,
            weights=self.weights,
            floor=self.floor,
            loaded=self.loaded,
            pretrained_on=None if self.pretrained_on is None else list(self.pretrained_on),
        )
        return Recipe(
            modality=modality,
            track=track,
            corpus=corpus,
            pretext=EXTERNAL,
            pretext_version=1,
            settings=settings,
            encoder=EncoderSpec(**sizes, depth=1, heads=1, trunk=EXTERNAL),
            stored_pixels=stored_pixels,
            policy=policy,
            budget=-1.0,
            precision="fp32",
            seed=0,
        )


def external(recipe: Recipe) -> ExternalEncoder | None:
    """The encoder from outside that a recipe stands for; None for one that was trained here."""
    if recipe.pretext != EXTERNAL:
        return None
    known, spec = recipe.settings, recipe.encoder
    return ExternalEncoder(
        name=known.arm,
        weights=known.weights,
        loaded=known.loaded,
        width=spec.width,
        pixels=spec.pixels,
        cls=spec.cls,
        floor=known.floor,
        pretrained_on=None if known.pretrained_on is None else tuple(known.pretrained_on),
    )


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how fast. Never hashed."""

    data: Path  # folder with native datasets
    results: Path  # store of finished work
    cache: Path  # image stores, features, checkpoints: may be deleted at any time
    processes: int = 1  # data-parallel processes, one per GPU, on all nodes together
    nodes: int = 1  # machines that share them, and the folders above
    node: int = 0  # which of them this is; 0 probes and reports
    head: str = ""  # address:port of node 0
    threads: int | None = None  # torch threads per process; None: torch's default
    checkpoint_seconds: float = 120.0  # between checkpoints
    skip_unreadable: bool = False
    micro: int | None = None  # images of a process at once, of a larger batch; None: all
    compile: str | None = None  # COMPILE=: "0", "1" or "graphs", see `modes`; None: as the track and device say


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The unit of work, of resume and of storage: one run × task × probe × readout."""

    recipe: Recipe
    task: str
    task_version: int
    data: str  # tasks.base.identity of the task's samples: a partial dataset is another cell
    probe: str
    probe_version: int
    settings: dict[str, Any]
    readout: str  # "patches" or "native"


def canonical(value: object) -> str:
    """One JSON text per value: sorted keys, no spaces, shortest floats."""
    return json.dumps(value, default=vars, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(value: Recipe | Cell) -> str:
    """The run id of a recipe, or the id of a cell: 12 hex digits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(f"{type(value).__name__}:{canonical(value)}".encode()).hexdigest()[:12]


def twin(recipe: Recipe) -> Recipe:
    """The very encoder the run started from: the floor of its numbers."""
    return replace(recipe, budget=0.0)


def columns(recipe: Recipe) -> dict[str, Any]:
    """What the table `runs` repeats of a recipe."""
    return {
        "run": key(recipe),
        "recipe": canonical(recipe),
        "modality": recipe.modality,
        "corpus": recipe.corpus.name,
        "corpus_digest": recipe.corpus.digest,
        "corpus_images": recipe.corpus.images,
        "track": recipe.track,
        "pretext": recipe.pretext,
        "pretext_version": recipe.pretext_version,
        "seed": recipe.seed,
        "twin": key(twin(recipe)),
        "engine": recipe.engine,
        "budget_flops": recipe.budget,
    }


def from_json(text: str) -> Recipe:
    """The recipe that `canonical` wrote, whatever version its settings are of: `registry.typed` makes them those of its
    pretext. Raises ValueError for anything else: no JSON, numbers that are not finite, fields that this version does
    not know or lacks."""
    try:
        raw = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        encoder, corpus = EncoderSpec(**raw.pop("encoder")), raw.pop("corpus")
        members = tuple((name, version) for name, version in corpus.pop("members"))
        skipped, settings = tuple(raw.pop("skipped")), SimpleNamespace(**raw.pop("settings"))
        corpus = Corpus(members=members, **corpus)
        return Recipe(encoder=encoder, corpus=corpus, skipped=skipped, settings=settings, **raw)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"not a recipe that this code knows ({error})") from error


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of a recipe")
