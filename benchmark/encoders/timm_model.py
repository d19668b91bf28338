"""A timm model from a config and a safetensors file: every tensor of it from the file, and what was done said in words.

timm itself loads without strictness wherever the number of classes differs, and an architecture may ask it to. Here it
only builds the model and converts names; the tensors are compared and filled in by `benchmark.encoders.weights`.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import PretrainedCfg, _builder
from torch import Tensor, nn

from benchmark.encoders import weights
from tasks.base import DataError

DEFAULT = PretrainedCfg()  # what timm takes where a config says nothing: ImageNet's mean and deviation, 224 pixels
CONFIG = set(PretrainedCfg.__dataclass_fields__) - {
    *("source", "url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "custom_load"),  # other weights
    *("num_classes", "label_offset", "label_names", "label_descriptions"),  # of a classifier that is not read
}
FACTORY = {  # arguments of timm's factory, not of an architecture
    *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path"),
    *("cache_dir", "scriptable", "exportable", "no_jit", "features_only", "out_indices", "feature_cls", "pruned"),
    *("device", "dtype"),
}
VISION = {"visual", "vision_model", "vision_encoder", "vision_tower", "image_encoder", "img_encoder"}  # of two towers
WRAPPERS = VISION | {
    *("module", "_orig_mod", "state_dict", "model", "net", "network", "encoder", "backbone", "trunk", "vit"),
    *("teacher", "student", "ema", "model_ema", "target_encoder", "context_encoder", "online_encoder", "encoder_q"),
    *("encoder_k", "base_encoder", "momentum_encoder", "feature_extractor", "timm_model"),
}
HEADS = {  # parts of a checkpoint that are no part of an encoder
    *("head", "heads", "head_dist", "fc", "classifier", "last_linear", "attn_pool", "mask_token", "queue", "queue_ptr"),
    *("predictor", "projector", "projection_head", "proj_head", "dino_head", "ibot_head", "prototypes", "dino_loss"),
    *("ibot_patch_loss", "logit_scale", "logit_bias"),
}
TRANSFORMERS = ("patch_embeddings", "encoder.layer.", "layernorm_before", "self_attn.q_proj")  # in their names


Converter = Callable[[dict[str, Tensor]], dict[str, Tensor] | None]  # None: nothing that timm could convert


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is said of a model before its weights are read."""

    source: str  # who says it: a config.json, or timm:NAME
    architecture: str
    arguments: dict[str, Any]  # of the architecture
    config: dict[str, Any]  # timm's own
    side: int  # of its images, pixels
    sized: bool  # whether the side is said, or timm's default
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...]  # what it leaves to a default


class Loaded(NamedTuple):
    """A frozen model, the same one untrained, and how the first came about."""

    model: nn.Module
    floor: nn.Module
    side: int  # of its images, pixels
    summary: str  # "152 of 152 tensors loaded; ..."


class Match(NamedTuple):
    """Tensors of a file, the part under a prefix, as those of a model."""

    tensors: dict[str, Tensor]  # under the model's names
    misfit: weights.Misfit
    below: str  # the prefix
    changes: tuple[str, ...]  # what was done to the file's names, in words
    resampled: tuple[str, ...]  # the tensors of another size, in words


def find_registered(name: str) -> tuple[Description, str]:
    """A model of timm's registry, and where on the hub its weights lie. Raises ValueError for another name."""
    try:
        known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    except RuntimeError:  # an unknown tag of a known architecture
        known = None
    if known is None or not known.hf_hub_id:
        near = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"timm:{name}: timm knows no published weights of that name; {hint}see timm.list_pretrained()")
    return describe(f"timm:{name}", name, {}, known.to_dict()), known.hf_hub_id


def read_config(path: Path) -> Description:
    """What a timm-format config.json says. Raises DataError for one that is none, or asks for what we cannot give."""
    remedy = "put one beside the weights, as `python -m benchmark export` and timm's push_to_hf_hub write it"
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no config that timm can read ({type(error).__name__}: {error}); {remedy}") from error
    if not isinstance(said, dict) or "architecture" not in said:
        theirs = isinstance(said, dict) and {"architectures", "model_type"} & set(said)
        kind = "a config of Hugging Face transformers" if theirs else "no config that timm can read"
        raise DataError(f'{path}: {kind}, without an "architecture" of timm; {remedy}')
    arguments, config = (said.get(part) or {} for part in ("model_args", "pretrained_cfg"))
    for part, value in {"model_args": arguments, "pretrained_cfg": config}.items():
        if not isinstance(value, dict):
            raise DataError(f"{path}: {part} should hold names and values, not {value!r}")
    return describe(str(path), said["architecture"], arguments, config or said)


def describe(source: str, architecture: object, arguments: dict[str, Any], config: Mapping[str, Any]) -> Description:
    """Raises DataError for an unknown architecture, and for values that no model or no image of ours can have."""
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        near = difflib.get_close_matches(str(architecture), timm.list_models(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{source}: timm {timm.__version__} knows no architecture {architecture!r}{hint}")
    if foreign := sorted(FACTORY & set(arguments)):
        raise DataError(f"{source}: model_args hold {', '.join(foreign)}, no property of an architecture; delete it")
    size = config.get("input_size") or list(DEFAULT.input_size)
    if not isinstance(size, list | tuple) or len(size) != 3:
        raise DataError(f"{source}: input_size {size!r} should be [channels, height, width]")
    channels = arguments.get("in_chans") or size[0]
    if channels != 3:
        raise DataError(
            f"{source}: a model of {channels!r}-channel images, and the benchmark gives three; name an RGB model"
        )
    sided = arguments.get("img_size") or config.get("input_size")
    notes = [] if sided else [f"no image size in the config, so timm's default of {size[-1]} pixels"]
    for part in ("mean", "std"):
        if config.get(part) is None:
            taken = ", ".join(map(str, getattr(DEFAULT, part)))
            notes.append(f"no {part} in the config, so timm's default of {taken} (ImageNet's)")
    return Description(
        source=source,
        architecture=architecture,
        arguments={name: value for name, value in arguments.items() if name != "num_classes"},
        config={"architecture": architecture} | {name: value for name, value in config.items() if name in CONFIG},
        side=_side(source, arguments.get("img_size") or list(size[1:])),
        sized=bool(sided),
        mean=_shares(source, "mean", config, lowest=0.0),
        std=_shares(source, "std", config, lowest=1e-6),
        notes=tuple(notes),
    )


def _side(source: str, size: object) -> int:
    """The side of a square, said as a number or as a pair."""
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    if type(height) is not int or height != width or height < 1:
        raise DataError(f"{source}: image size {size!r} should be the side of a square in pixels, or that twice")
    return height


def _shares(source: str, name: str, config: Mapping[str, Any], lowest: float) -> tuple[float, ...]:
    """Mean or deviation of the three channels of images in [0, 1]."""
    values = getattr(DEFAULT, name) if config.get(name) is None else config[name]
    numbers = isinstance(values, list | tuple) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != 3 or not all(lowest <= value <= 1 for value in values):
        raise DataError(f"{source}: {name} {values!r} should be three numbers for images in [0, 1], red, green, blue")
    return tuple(map(float, values))


def load(description: Description, path: Path, pixels: int | None, seed: int) -> Loaded:
    """The described model with the weights of a file, and the same one untrained, drawn from the seed.

    pixels: side of the images, if not the description's. Raises DataError where a tensor of the model is not in the
    file, or one of the file not in the model, unless it belongs to a head.
    """
    tensors = weights.read(path)
    arguments, notes, side = dict(description.arguments), list(description.notes), pixels or description.side
    dynamic = arguments.get("dynamic_img_size")
    fixed = description.config.get("fixed_input_size", _fixed(description.architecture)) or "img_size" in arguments
    if pixels and fixed and not dynamic:
        arguments["img_size"] = pixels
    if dynamic and side != description.side:
        notes.append(f"positions of {description.side}-pixel images resampled by timm for {side} pixels")
    model, convert = _build_for(description, arguments, seed)
    _refuse_cut(description, model, side)
    own, classifier = model.state_dict(), description.config.get("classifier") or ()
    match = _match(own, tensors, convert, (classifier,) if isinstance(classifier, str) else classifier)
    if match.misfit.count:
        raise DataError(_refusal(description, path, match, tensors, len(own)))
    if match.resampled and not (description.sized or pixels):
        raise DataError(
            f"{description.source}: names no image size, and the positions in {path} are not those of timm's default, "
            f"{side} pixels: {'; '.join(match.resampled)}; say the size as input_size, or by --pixels"
        )
    model.load_state_dict(own | match.tensors)
    if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise DataError(
            f"{path}: values of {len(broken)} tensors are not finite, {weights.examples(broken)}; name sound weights"
        )
    read = [name for name in own if name in match.tensors or not name.endswith(weights.COUNTER)]
    summary = f"{len(match.tensors)} of {len(read)} tensors loaded"
    floor = _build(description, arguments, seed, pretrained=False)
    return Loaded(model, floor, side, "; ".join([summary, *match.changes, *match.resampled, *notes]))


def _build(description: Description, arguments: dict[str, Any], seed: int, *, pretrained: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(
                description.architecture,
                pretrained=pretrained,
                num_classes=0,
                pretrained_cfg=description.config,
                **arguments,
            )
        except Exception as error:  # timm does not check what it is given: anything may be raised, anywhere in it
            raise DataError(
                f"{description.source}: timm cannot build {description.architecture} with the arguments {arguments} "
                f"({type(error).__name__}: {error}); mend model_args or --pixels"
            ) from error


def _fixed(architecture: str) -> bool:
    """Whether an architecture is built for one size of images, as timm's registry says."""
    known = timm.get_pretrained_cfg(architecture.partition(".")[0])
    return bool(known and known.fixed_input_size)


def _refuse_cut(description: Description, model: nn.Module, side: int) -> None:
    """Raises DataError where patches do not fill the image: timm would not see the rest of it."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None) or (1, 1)
    height, width = patch if isinstance(patch, tuple | list) else (patch, patch)
    if (side % height or side % width) and not description.arguments.get("dynamic_img_pad"):
        raise DataError(
            f"{description.source}: {side} pixels are no multiple of the {height} x {width} patches of "
            f"{description.architecture}, which would leave out the edge; mend --pixels or the image size"
        )


def _build_for(description: Description, arguments: dict[str, Any], seed: int) -> tuple[nn.Module, Converter]:
    """The model as timm builds it for weights, none of them loaded, and timm's converter of names and sizes for it."""
    taken = []

    def collect(*_: object, filter_fn: Callable[[dict, nn.Module], dict] | None = None, **__: object) -> None:
        taken.append(filter_fn)

    theirs, _builder.load_pretrained = _builder.load_pretrained, collect
    try:
        model = _build(description, arguments, seed, pretrained=True)
    finally:
        _builder.load_pretrained = theirs

    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        try:
            return dict(taken[0](dict(tensors), model)) if taken[0] else None
        except Exception:  # it takes any file for one of the formats that it knows; what does not fit is refused anyway
            return None

    return model, convert


def _match(
    own: dict[str, Tensor], tensors: dict[str, Tensor], convert: Callable[[dict], dict | None], heads: Sequence[str]
) -> Match:
    """The tensors as those of the model: as they are, converted by timm, or either below a wrapper's prefix; the first
    that fits, else the nearest."""
    matches = []
    for prefix in ("", *_prefixes(tensors)):
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for candidate in (inside, convert(inside)):
            if candidate is not None:
                matches.append(_matched(own, tensors, prefix, inside, candidate, heads))
                if not matches[-1].misfit.count:
                    return matches[-1]
    return min(matches, key=lambda match: match.misfit.count)


def _matched(
    own: dict[str, Tensor],
    tensors: dict[str, Tensor],
    prefix: str,
    inside: dict[str, Tensor],
    candidate: dict[str, Tensor],
    heads: Sequence[str],
) -> Match:
    """inside: the tensors below the prefix, without it; candidate: these, or what timm's converter made of them."""
    misfit = weights.compare(own, candidate)
    outside = [name for name in tensors if not name.startswith(prefix)]
    other_tower = outside if VISION & set(prefix.split(".")) else []
    left_out = [name for name in (*misfit.unexpected, *outside) if name in other_tower or _is_head(name, heads)]
    unexpected = tuple(name for name in (*misfit.unexpected, *outside) if name not in left_out)
    changes = [f"prefix {prefix} removed"] if prefix else []
    if set(candidate) - set(inside):
        changes.append("names converted by timm")
    if left_out:
        changes.append(f"{len(left_out)} not of the encoder left out, {weights.examples(left_out)}")
    resized = sorted(n for n in own.keys() & candidate.keys() & inside.keys() if _resized(inside[n], candidate[n]))
    words = {name: weights.change(inside[name], own[name]) for name in resized}
    moved = tuple(
        f"{name} ({words[name]})" for name in resized if "pos" not in name
    )  # of another patch: another encoder
    return Match(
        tensors={name: value for name, value in candidate.items() if name in own},
        misfit=weights.Misfit(misfit.missing, unexpected, (*misfit.different, *moved)),
        below=prefix,
        changes=tuple(changes),
        resampled=tuple(f"{name} resampled by timm, {words[name]}" for name in resized),
    )


def _resized(before: Tensor, after: Tensor) -> bool:
    """Whether values were made anew, not only laid out in another shape."""
    return before.numel() != after.numel()


def _prefixes(names: Mapping[str, Tensor]) -> list[str]:
    """Chains of wrappers at the beginning of names: "teacher.", "teacher.backbone.", ..."""
    found = {}
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts)):
            if parts[end - 1] not in WRAPPERS:
                break
            found[".".join(parts[:end]) + "."] = None
    return list(found)


def _is_head(name: str, classifiers: Sequence[str]) -> bool:
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    bare = ".".join(parts)
    return parts[0] in HEADS or parts[0].startswith("decoder") or bare.startswith(tuple(f"{c}." for c in classifiers))


def _refusal(description: Description, path: Path, match: Match, tensors: Mapping[str, Tensor], size: int) -> str:
    """Why a file is not that of a model, and what to do."""
    below = f", read below {match.below}," if match.below else ""
    if any(part in name for name in tensors for part in TRANSFORMERS):
        remedy = "these are names of Hugging Face transformers: save the weights of the timm model instead"
    else:
        remedy = "mend architecture or model_args, or save the encoder's weights alone under timm's names"
    return (
        f"{path}: its {len(tensors)} tensors{below} are not the {size} of {description.architecture} as "
        f"{description.source} describes it: {match.misfit}; {remedy}"
    )
