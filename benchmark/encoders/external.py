"""Any frozen encoder, or a table of embeddings, on the same boards: the same images, splits, probes and statistics.

    timm:NAME            a timm model with its published weights
    hf-hub:OWNER/NAME    a timm-format folder of the Hugging Face hub
    PATH.safetensors     weights with a timm-format config.json beside them, such as `python -m benchmark export` writes
    MODULE:FUNCTION      a function of yours without arguments that returns a module (or function) of images
                         (B, 3, S, S) in [0, 1], whose forward gives (B, D), or patch tokens (B, N, D) to be averaged;
                         one that takes `untrained` is called with True as well
    PATH.parquet         embeddings: a column `sample` with a task's sample ids, a column `embedding` with lists

Weights are read as safetensors alone: nothing from outside is unpickled. A timm model is read by its tokens before
pooling, and every tensor of it comes from the file (`benchmark.encoders.timm_model`); yours by its forward and nothing
else. The floor is the same architecture untrained, as timm draws it or your function returns it; embeddings have none.
What an encoder was pretrained on is what its user declares.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmark.encoders import own_encoder, timm_model
from benchmark.encoders.encoder import Tokens
from benchmark.recipe import ExternalEncoder
from benchmark.storage import seals
from tasks.base import DataError, digest

WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")  # names on the hub
SIDE = 224  # pixels, where nothing says otherwise


def timm_tokens(model: nn.Module, images: Tensor) -> Tokens:
    """What a timm model's `forward_features` makes of normalised images; a grid of channels is one token a place."""
    out = model.forward_features(images)
    if not isinstance(out, Tensor) or out.ndim not in (2, 3, 4):
        raise DataError(
            f"timm's {type(model).__name__} answers with {own_encoder.name_kind(out)}, no tokens that can be read"
        )
    if out.ndim == 2:
        return Tokens(None, out[:, None])
    if out.ndim == 4:
        channels_last = out.shape[-1] == getattr(model, "num_features", None)
        return Tokens(None, out.flatten(1, 2) if channels_last else out.flatten(2).transpose(1, 2))
    cls = getattr(model, "cls_token", None) is not None
    prefix = getattr(model, "num_prefix_tokens", int(cls))
    patches = out.shape[1] - prefix
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise DataError(
            f"timm's {type(model).__name__} answers a square image with {own_encoder.name_kind(out)}, {prefix} of them "
            "before the patches: the others are no square of patches, so tokens of another kind are among them"
        )
    return Tokens(out[:, 0] if cls else None, out[:, prefix:])


class Output(NamedTuple):
    """What a model makes of an image."""

    width: int  # token dimension
    pixels: int  # side of the image
    cls: bool  # whether a cls token is among the tokens


class External(nn.Module):
    """A frozen model as probes see an encoder: images (B, 3, side, side) in [0, 1] -> Tokens."""

    def __init__(
        self,
        model: Callable[[Tensor], object],
        pixels: int,
        mean: list[float],
        std: list[float],
        read: Callable[[Callable[[Tensor], object], Tensor], Tokens] = timm_tokens,
    ):
        """read: of the model and normalised images, the tokens. Raises what it raises on two images."""
        super().__init__()
        self.model = model.eval().requires_grad_(False) if isinstance(model, nn.Module) else model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.read = read
        with torch.inference_mode():
            tokens = read(self.eval().model, (ramp(2, pixels) - self.mean) / self.std)
        self.count, width = tokens.patches.shape[1:]
        self.spec = Output(width, pixels, tokens.cls is not None)

    def forward(self, images: Tensor) -> Tokens:
        tokens = self.read(self.model, (images - self.mean) / self.std)
        if tokens.patches.shape[-1] != self.spec.width:
            raise DataError(
                f"the encoder gives {len(images)} images {tokens.patches.shape[-1]} numbers each, and gave others "
                f"{self.spec.width}: give all images the same"
            )
        return tokens


def ramp(batch: int, side: int) -> Tensor:
    """Images (batch, 3, side, side) that run from 0 to 1."""
    return torch.linspace(0, 1, batch * 3 * side * side).reshape(batch, 3, side, side)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What `--encoder` named."""

    name: str
    model: External | None  # None: embeddings
    floor: External | None  # the same architecture, untrained
    embeddings: dict[str, np.ndarray] | None  # sample id -> (D,)
    digest: str  # SHA-256 of the weights or of the file; of a function, of its module's source too
    loaded: str  # what was read, and how, in words

    def described(self, pretrained_on: tuple[str, ...] | None, stored_pixels: int) -> ExternalEncoder:
        """pretrained_on: datasets, as declared; None: not told. stored_pixels: side of the images of embeddings."""
        if self.model is not None:
            width, pixels, cls = self.model.spec
        else:
            width, pixels, cls = len(next(iter(self.embeddings.values()))), stored_pixels, False
        return ExternalEncoder(
            name=self.name,
            weights=self.digest,
            loaded=self.loaded,
            width=width,
            pixels=pixels,
            cls=cls,
            floor=self.floor is not None,
            pretrained_on=None if pretrained_on is None else tuple(sorted(pretrained_on)),
        )


def open_encoder(spec: str, pixels: int | None = None, seed: int = 0) -> Opened:
    """Raises ValueError for what cannot be named so, DataError for what is there and cannot be read or used."""
    kind, _, rest = spec.partition(":")
    if Path(spec).is_dir():
        raise ValueError(f"--encoder {spec}: a folder; name the file in it, such as {Path(spec) / WEIGHTS[0]}")
    if spec.endswith(".parquet"):
        if pixels:
            raise ValueError(f"--pixels {pixels}: embeddings are read as they are; leave it out")
        return _embeddings(Path(spec))
    if kind == "timm" and rest:
        description, home = timm_model.find_registered(rest)
        return _timm(spec, description, _hub(home, *WEIGHTS), pixels, seed)
    if kind == "hf-hub" and rest:
        return _timm(spec, timm_model.read_config(_hub(rest, "config.json")), _hub(rest, *WEIGHTS), pixels, seed)
    if spec.endswith(".safetensors"):
        path = Path(spec).absolute()
        if not path.exists():
            raise DataError(f"{path}: no such file")
        description = timm_model.read_config(path.parent / "config.json")
        return _timm(f"{path.parent.name}/{path.name}", description, path, pixels, seed)
    if rest and re.fullmatch(r"[\w.]+:\w+", spec):
        return _own(spec, own_encoder.make(kind, rest, seed), pixels or SIDE)
    raise ValueError(
        f"--encoder {spec}: name timm:NAME, hf-hub:OWNER/NAME, PATH.safetensors, MODULE:FUNCTION or PATH.parquet; "
        "nothing but safetensors is loaded as weights"
    )


def _timm(name: str, description: timm_model.Description, path: Path, pixels: int | None, seed: int) -> Opened:
    """A timm model with those weights, and the same one untrained."""
    loaded = timm_model.load(description, path, pixels, seed)
    try:
        model, floor = (
            External(part, loaded.side, list(description.mean), list(description.std))
            for part in (loaded.model, loaded.floor)
        )
    except DataError:
        raise
    except Exception as error:  # timm does not check what it is given: anything may be raised, anywhere in it
        raise DataError(
            f"{description.source}: {description.architecture} does not take images of {loaded.side} pixels "
            f"({type(error).__name__}: {error}); mend --pixels, or the image size in the config"
        ) from error
    read = fingerprint(model)
    if read == fingerprint(floor):
        raise DataError(
            f"{path}: its weights are those of the untrained {description.architecture}: there is nothing to measure. "
            "Name the trained ones"
        )
    said = f"{loaded.summary}; {model.count} patch tokens of {model.spec.width} numbers an image"
    return Opened(name=name, model=model, floor=floor, embeddings=None, digest=read, loaded=said)


def _hub(name: str, *files: str) -> Path:
    """The first of the files that the hub, or its local cache, holds. Raises DataError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repo, _, revision = name.partition("@")
    for file in files:
        try:
            return Path(hf_hub_download(repo, file, revision=revision or None))
        except (HfHubHTTPError, OSError, ValueError) as error:
            last = error
    raise DataError(
        f"hf-hub:{name}: no {' or '.join(files)} ({type(last).__name__}: {str(last).partition(chr(10))[0]}); nothing "
        "but safetensors is loaded. Without network, download the folder elsewhere and name its PATH.safetensors"
    )


def _own(spec: str, made: own_encoder.Made, pixels: int) -> Opened:
    """A module or function of the user's; its digest is of weights and source, since another forward is another one.
    Raises DataError for one whose weights are those of its untrained twin."""
    model, floor = (
        one if one is None else External(one, pixels, [0.0] * 3, [1.0] * 3, partial(own_encoder.tokens, spec))
        for one in (made.model, made.floor)
    )
    if floor is not None and fingerprint(model) == fingerprint(floor):
        raise DataError(
            f"--encoder {spec}: its weights are those that it has with {own_encoder.UNTRAINED}=True: there is nothing "
            "to measure; load the trained ones"
        )
    loaded = f"forward read: {model.spec.width} numbers an image"
    if model.count > 1:
        loaded = f"forward read: {model.count} tokens of {model.spec.width} numbers an image, averaged"
    parts = digest(fingerprint(model), *map(seals.sha256, made.sources))
    return Opened(name=spec, model=model, floor=floor, embeddings=None, digest=parts, loaded=loaded)


def _embeddings(path: Path) -> Opened:
    """A table of embeddings. Raises DataError unless each sample is there once, all of one finite length."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        table = pq.read_table(path, columns=["sample", "embedding"])
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise DataError(f"{path}: needs the columns sample and embedding ({error})") from error
    ids, lists = (table[name].combine_chunks() for name in ("sample", "embedding"))
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if isinstance(lists, pa.ExtensionArray):
        lists = lists.storage
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise DataError(f"{path}: the column sample holds {ids.type}; needed are sample ids, as text")
    if not _is_list_of_numbers(lists.type):
        raise DataError(f"{path}: the column embedding holds {table['embedding'].type}; needed are lists of numbers")
    names, rows = ids.to_pylist(), lists.to_pylist()
    lengths = {0 if row is None else len(row) for row in rows}
    if None in names or len(set(names)) < len(names) or len(lengths) != 1 or 0 in lengths:
        name, times = Counter(names).most_common(1)[0] if names else (None, 0)
        twice = f", {name!r} {times} times" if times > 1 else ""
        raise DataError(
            f"{path}: {len(names)} rows, {len(set(names))} different samples{twice}, lengths {sorted(lengths)[:5]}; "
            "each sample once, all of one length"
        )
    with np.errstate(over="ignore"):  # what fp32 cannot hold becomes infinite, and what is not there nan
        values = np.array(rows, dtype=np.float32)
    if broken := [name for name, row in zip(names, values, strict=True) if not np.isfinite(row).all()]:
        raise DataError(f"{path}: the embedding of {broken[0]} is not finite, one of {len(broken)}")
    loaded = f"{len(names)} embeddings of {values.shape[1]} numbers"
    found = dict(zip(names, values, strict=True))
    return Opened(name=path.name, model=None, floor=None, embeddings=found, digest=seals.sha256(path), loaded=loaded)


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def fingerprint(model: External) -> str:
    """SHA-256 of all weights and buffers; for a function without any, of what it makes of a fixed image."""
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if not any(True for _ in model.parameters()):
        with torch.inference_mode():
            sha.update(model(ramp(1, model.spec.pixels)).patches.float().numpy().tobytes())
    return sha.hexdigest()
