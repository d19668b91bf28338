"""Any frozen encoder, or a table of embeddings, on the same boards: the same images, splits, probes and statistics.

    timm:NAME            a timm model with its published weights
    hf-hub:OWNER/NAME    a timm-format folder of the Hugging Face hub
    PATH.safetensors     weights with a timm-format config.json beside them, such as `python -m benchmark export` writes
    MODULE:FUNCTION      a function of yours that returns a module: images (B, 3, S, S) in [0, 1] -> (B, D) or (B, N, D)
    PATH.parquet         embeddings: a column `sample` with a task's sample ids, a column `embedding` with lists

Weights are read as safetensors alone: nothing from outside is unpickled. The floor of a timm model is the same
architecture untrained; the other two have none. What an encoder was pretrained on is what its user declares.
"""

import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark import arithmetic, features, machine, passports, plan, registry, results, run, tracks
from benchmark.encoder import Tokens
from benchmark.plan import Study
from benchmark.probing import fit
from benchmark.recipe import EXTERNAL, Cell, EncoderSpec, Recipe, Runtime, columns, key, twin
from tasks import leakage, splits
from tasks.base import DataError, Sample, Task

UNKNOWN_FLOPS = -1.0  # the budget of a pretraining that we have not seen
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")  # names on the hub
SIDE = 224  # pixels, where nothing says otherwise


class External(nn.Module):
    """A frozen model as probes see an encoder: images (B, 3, side, side) in [0, 1] -> Tokens."""

    def __init__(self, model: Callable[[Tensor], Tensor], pixels: int, mean: list[float], std: list[float]):
        super().__init__()
        self.model = model.eval().requires_grad_(False) if isinstance(model, nn.Module) else model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.spec = EncoderSpec(width=1, depth=1, heads=1, patch=pixels, pixels=pixels, trunk=EXTERNAL)
        with torch.inference_mode():
            tokens = self.eval()(torch.full((1, 3, pixels, pixels), 0.5))
        self.spec = replace(self.spec, width=tokens.patches.shape[-1], cls=tokens.cls is not None)

    def forward(self, images: Tensor) -> Tokens:
        extract = getattr(self.model, "forward_features", self.model)
        out = extract((images - self.mean) / self.std)
        if out.ndim == 2:
            return Tokens(None, out[:, None])
        if out.ndim == 4:
            last = out.shape[-1] == getattr(self.model, "num_features", None)
            return Tokens(None, out.flatten(1, 2) if last else out.flatten(2).transpose(1, 2))
        prefix = getattr(self.model, "num_prefix_tokens", 0)
        cls = getattr(self.model, "cls_token", None) is not None
        return Tokens(out[:, 0] if cls else None, out[:, prefix:])


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What `--encoder` named."""

    name: str
    model: External | None  # None: embeddings
    floor: External | None  # the same architecture, untrained
    embeddings: dict[str, np.ndarray] | None  # sample id -> (D,)
    digest: str  # SHA-256 of the weights or of the file


def open_encoder(spec: str, pixels: int | None = None, seed: int = 0) -> Opened:
    """Raises ValueError for what cannot be named so, DataError for a file that is missing or is no safetensors."""
    kind, _, rest = spec.partition(":")
    if spec.endswith(".parquet"):
        return _embeddings(Path(spec))
    if kind == "timm" and rest:
        return _timm(spec, *_registered(rest), pixels, seed)
    if kind == "hf-hub" and rest:
        return _timm(spec, *_folder(_hub(rest, "config.json").parent, _hub(rest, *WEIGHTS)), pixels, seed)
    if spec.endswith(".safetensors"):
        path = Path(spec).absolute()
        return _timm(f"{path.parent.name}/{path.name}", *_folder(path.parent, path), pixels, seed)
    if rest and re.fullmatch(r"[\w.]+:\w+", spec):
        model = External(_function(kind, rest), pixels or SIDE, [0.0] * 3, [1.0] * 3)
        return Opened(name=spec, model=model, floor=None, embeddings=None, digest=fingerprint(model))
    raise ValueError(
        f"--encoder {spec}: name timm:NAME, hf-hub:OWNER/NAME, PATH.safetensors, MODULE:FUNCTION or PATH.parquet"
    )


def _timm(
    name: str, architecture: str, config: dict, arguments: dict, weights: Path, pixels: int | None, seed: int
) -> Opened:
    """A timm model with those weights, and the same one untrained."""
    import timm
    from timm.models import PretrainedCfg

    if not weights.exists():
        raise DataError(f"{weights}: no such file; weights are read as safetensors alone")
    if pixels and config.get("fixed_input_size"):
        arguments = arguments | {"img_size": pixels}
    side = pixels or arguments.get("img_size") or config.get("input_size", (3, SIDE, SIDE))[-1]
    fields = set(PretrainedCfg.__dataclass_fields__) - {"source", "hf_hub_id", "hf_hub_filename", "url", "custom_load"}
    config = {k: v for k, v in config.items() if k in fields} | {"file": str(weights)}
    models = []
    for pretrained in (True, False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = timm.create_model(
                    architecture, pretrained=pretrained, num_classes=0, pretrained_cfg=config, **arguments
                )
            except (SafetensorError, RuntimeError) as error:
                raise DataError(f"{weights}: cannot be loaded into timm's {architecture} ({error})") from error
        models.append(External(model, side, list(config["mean"]), list(config["std"])))
    return Opened(name=name, model=models[0], floor=models[1], embeddings=None, digest=fingerprint(models[0]))


def _registered(name: str) -> tuple[str, dict, dict, Path]:
    """(architecture, config, arguments, weights) of a name in timm's registry."""
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        raise ValueError(f"timm:{name}: timm knows no published weights of that name; see timm.list_models()")
    return name, known.to_dict(), {}, _hub(known.hf_hub_id, *WEIGHTS)


def _folder(folder: Path, weights: Path) -> tuple[str, dict, dict, Path]:
    """(architecture, config, arguments, weights) of a folder with a timm-format config.json."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text())
        architecture, arguments = found["architecture"], found.get("model_args") or {}
        config = found.get("pretrained_cfg") or {k: v for k, v in found.items() if k != "architecture"}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: no config that timm can read ({type(error).__name__}: {error}); put one beside {weights.name}, "
            "as `python -m benchmark export` and timm's push_to_hf_hub write it"
        ) from error
    return architecture, config, arguments, weights


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
        f"hf-hub:{name}: no {' or '.join(files)} ({type(last).__name__}: {str(last).splitlines()[0]}); nothing but "
        "safetensors is loaded. Without network, download the folder elsewhere and name its PATH.safetensors"
    )


def _function(module: str, name: str) -> Callable[[Tensor], Tensor]:
    """What the user's own function returns."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--encoder {module}:{name}: {error}; run where {module}.py lies, or install it") from error


def _embeddings(path: Path) -> Opened:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        table = pq.read_table(path, columns=["sample", "embedding"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: needs the columns sample and embedding ({error})") from error
    rows = dict(zip(table["sample"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    sizes = {len(row) if row is not None else 0 for row in rows.values()}
    if len(rows) < len(table) or len(sizes) != 1 or 0 in sizes:
        raise DataError(
            f"{path}: {len(table)} rows, {len(rows)} different samples, lengths {sorted(sizes)[:5]}; each "
            "sample once, all of one length"
        )
    found = {name: np.asarray(row, dtype=np.float32) for name, row in rows.items()}
    broken = [name for name, row in found.items() if not np.isfinite(row).all()]
    if broken:
        raise DataError(f"{path}: the embedding of {broken[0]} is not finite, one of {len(broken)}")
    return Opened(name=path.name, model=None, floor=None, embeddings=found, digest=results.sha256(path))


def fingerprint(model: External) -> str:
    """SHA-256 of all weights and buffers; for a function without any, of what it makes of a fixed image."""
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if not any(True for _ in model.parameters()):
        side = model.spec.pixels
        image = torch.linspace(0, 1, 3 * side * side).reshape(1, 3, side, side)
        with torch.inference_mode():
            sha.update(model(image).patches.float().numpy().tobytes())
    return sha.hexdigest()


def probe(
    opened: Opened,
    study: Study,
    track: str,
    runtime: Runtime,
    *,
    declared: tuple[str, ...] | None,
    policy: str,
    say: Callable[[str], None],
) -> list[str]:
    """Probe an outside encoder, and its floor, on every task of a study; the runs stored or there already.

    declared: datasets it was pretrained on; None: not told. Raises DataError where embeddings lack a sample.
    """
    arithmetic.prepare(runtime.threads)
    run.prepare(study, runtime, tracks.get(track).stored_pixels)
    spec = opened.model.spec if opened.model else _plain(opened.embeddings, track)
    recipe = Recipe(
        modality=study.modality,
        track=track,
        corpus=study.pinned.corpus,
        pretext=EXTERNAL,
        pretext_version=1,
        settings={
            "arm": opened.name,
            "weights": opened.digest,
            "pretrained_on": None if declared is None else sorted(declared),
            "floor": opened.floor is not None,
        },
        encoder=spec,
        stored_pixels=tracks.get(track).stored_pixels,
        policy=policy,
        budget=UNKNOWN_FLOPS,
        precision="fp32",
        seed=0,
    )
    done = []
    pairs = [(recipe, opened.model, opened.digest, declared)]
    if opened.floor is not None:
        pairs.append((twin(recipe), opened.floor, fingerprint(opened.floor), ()))
    for one, model, weights, told in pairs:
        directory = results.run_directory(runtime.results, one.modality, key(one))
        row = _row(one, weights, any(member.source.synthetic for member in study.pinned.members))
        results.write(directory, {"runs": results.table("runs", [row]), "curves": results.table("curves", [])})
        _probe(one, model, opened.embeddings, study, weights, told, runtime, say)
        done.append(key(one))
    return done


def _probe(
    recipe: Recipe,
    model: External | None,
    embeddings: dict[str, np.ndarray] | None,
    study: Study,
    weights: str,
    declared: tuple[str, ...] | None,
    runtime: Runtime,
    say: Callable[[str], None],
) -> None:
    seen: dict[str, dict[str, np.ndarray]] = {}  # address of an image store -> features
    asked = [c for c in plan.cells(recipe, study) if registry.declarations("probes", c.probe).NEEDS == "pooled"]
    for name, found in study.tasks.items():
        missing = [cell for cell in asked if cell.task == name and not _there(cell, runtime)]
        if not missing:
            continue
        say(f"{recipe.settings['arm']}{' untrained' if recipe.budget == 0 else ''} on {name}: {len(missing)} cells")
        if model is None:
            pooled = {"patches": _rows(embeddings, found.task, found.samples)}
        else:
            built = run.stored(found, runtime, recipe.stored_pixels)
            if built.address not in seen:
                seen[built.address] = features.extract(model, built)
            place = {sample_id: i for i, sample_id in enumerate(built.ids)}
            index = np.array([place[sample.id] for sample in found.samples])
            pooled = {kind: rows[index] for kind, rows in seen[built.address].items()}
        divisions = splits.assignments(found.task, found.samples)
        tested = sorted({i for division in divisions for i in division.test})
        leaks = [contamination(declared, found.task, [found.samples[i] for i in tested])]
        leaks += passports.of(found.task, found.samples, runtime)
        for cell in missing:
            x = pooled["cls" if cell.readout == "native" and "cls" in pooled else "patches"]
            fitted = fit(cell.probe, cell.settings, recipe.seed, found.task, found.samples, x, divisions)
            run.store_cell(cell, found, found, fitted, leaks, weights, runtime)


def contamination(declared: tuple[str, ...] | None, task: Task, test: list[Sample]) -> leakage.Overlap:
    """What the declared pretraining data say of a test set: all of it where its dataset is among them, unknown where
    nothing was declared. A name counts where it holds the dataset's or lies in it: BreaKHis, breakhis_100x."""
    between = "declared pretraining data and test"
    if declared is None:
        return leakage.Overlap("declared", None, (), between)
    own = {_plainly(text) for text in (task.name, task.title, task.images.split("/")[0], task.family)}
    named = [d for d in declared if any(_plainly(d) in text or text in _plainly(d) for text in own)]
    return leakage.Overlap("declared", len(test) if named else 0, tuple(named), between)


def _plainly(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _plain(embeddings: dict[str, np.ndarray], track: str) -> EncoderSpec:
    pixels = tracks.get(track).stored_pixels
    width = len(next(iter(embeddings.values())))
    return EncoderSpec(width=width, depth=1, heads=1, patch=pixels, pixels=pixels, cls=False, trunk=EXTERNAL)


def _rows(embeddings: dict[str, np.ndarray], task: Task, samples: list[Sample]) -> np.ndarray:
    """(N, D) in the order of the samples."""
    lacking = [sample.id for sample in samples if sample.id not in embeddings]
    if lacking:
        raise DataError(
            f"the embeddings lack {len(lacking)} of {len(samples)} samples of {task.name}, such as {lacking[0]!r}; "
            "ids are those of the task's samples, or leave the task out by --task"
        )
    return np.stack([embeddings[sample.id] for sample in samples])


def _there(cell: Cell, runtime: Runtime) -> bool:
    return results.cell_directory(runtime.results, cell.recipe.modality, key(cell)).exists()


def _row(recipe: Recipe, weights: str, synthetic: bool) -> dict[str, object]:
    """A row of `runs` for a training that was not seen."""
    commit, dirty = machine.commit()
    row = dict.fromkeys(results.TABLES["runs"].names)
    return row | {
        **columns(recipe),
        "synthetic": synthetic,
        "steps": 0,
        "images_seen": 0,
        "seconds": 0.0,
        "status": "finished",
        "weights_sha256": weights,
        "commit": commit,
        "dirty": dirty,
        "versions": machine.versions(),
        "device": machine.device_name(),
        "threads": torch.get_num_threads(),
        "processes": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
