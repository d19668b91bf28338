"""A stored encoder as a folder that timm and the Hugging Face hub load: safetensors, config.json, a model card.

    timm.create_model("local-dir:FOLDER", pretrained=True)       forward: the mean patch token, as the board's headline
    timm.create_model("hf-hub:OWNER/NAME", pretrained=True)      once the folder is uploaded

Both trunks are timm architectures with other sizes: the common one a `VisionTransformer` whose positions are written
out, the rotary one an `Eva` with DINOv3's rotations. Mean and deviation of the corpus go into the config.
"""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tasks
from benchmark import metrics
from benchmark.encoders import encoder as encoders
from benchmark.recipe import EXTERNAL, EncoderSpec, Recipe, canonical, from_json, key
from benchmark.storage import seals, temporary
from tasks import cards
from tasks.base import DataError

ARCHITECTURES = {"common": "vit_tiny_patch16_224", "rope": "vit_small_patch16_rope_224"}
LIMITS = (
    "It was trained for a comparison of pretext tasks at equal training FLOPs, not for use on patients.",
    "Its numbers are about the datasets named here; other scanners, stains and hospitals were not tested.",
    "A gain over the untrained twin is what pretraining added. Without one, the encoder has learnt nothing that "
    "this probe can read.",
)


def export(run: dict, cells: pd.DataFrame, weights: Path, out: Path) -> Path:
    """Write the folder of one stored run (a row of `runs`); cells: those of the store.

    Raises DataError where the folder is there already, or the weights are not those of the run; ValueError for an
    encoder from outside.
    """
    if run["pretext"] == EXTERNAL:
        raise ValueError(f"{run['run']} is an encoder from outside: its weights are where they came from")
    if out.exists():
        raise DataError(f"{out}: is there already; name another folder by --out, or delete it")
    if not weights.exists():
        raise DataError(f"{weights}: no such file; `python -m benchmark reproduce {run['run']}` trains the run again")
    if seals.sha256(weights) != run["weights_sha256"]:
        raise DataError(f"{weights}: not the weights of run {run['run']} (SHA-256 differs); `make verify`")
    recipe = from_json(run["recipe"])
    stored = load_file(weights)
    part = temporary.beside(out)
    part.mkdir(parents=True)
    try:
        save_file(state(recipe.encoder, stored), part / "model.safetensors", metadata={"format": "pt"})
        (part / "config.json").write_text(json.dumps(config(recipe, stored), indent=2) + "\n", encoding="utf-8")
        (part / "recipe.json").write_text(canonical(recipe) + "\n", encoding="utf-8")
        (part / "README.md").write_text(card(recipe, run, cells), encoding="utf-8")
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def state(spec: EncoderSpec, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under timm's names."""
    found = {name.removeprefix("vit."): value for name, value in stored.items() if name.startswith("vit.")}
    if not spec.cls:
        del found["cls_token"]
    if spec.trunk == "rope":
        layer_scale = {".ls1.gamma": ".gamma_1", ".ls2.gamma": ".gamma_2"}
        for ours, theirs in layer_scale.items():
            found = {name.replace(ours, theirs): value for name, value in found.items()}
    else:
        prefix = torch.zeros(spec.prefix, spec.width)
        found["pos_embed"] = torch.cat([prefix, encoders.sincos(spec.grid, spec.width)])[None]
    return {name: value.contiguous() for name, value in found.items()}


def config(recipe: Recipe, stored: dict[str, Tensor]) -> dict[str, object]:
    """What timm and the hub read: architecture, sizes, preprocessing."""
    spec = recipe.encoder
    sizes = {"img_size": spec.pixels, "patch_size": spec.patch, "embed_dim": spec.width, "depth": spec.depth}
    sizes |= {"num_heads": spec.heads, "class_token": spec.cls, "global_pool": "avg", "dynamic_img_size": True}
    if spec.trunk == "rope":
        sizes |= {"num_reg_tokens": spec.registers, "rope_type": "dinov3", "rope_rotate_half": True}
        sizes |= {"rope_grid_indexing": "ij", "use_fc_norm": False}
    else:
        sizes |= {"reg_tokens": spec.registers, "fc_norm": False}
    return {
        "architecture": ARCHITECTURES[spec.trunk],
        "num_classes": 0,
        "num_features": spec.width,
        "global_pool": "avg",
        "model_args": sizes,
        "pretrained_cfg": {
            "tag": f"pretext_bench_{recipe.pretext}_{key(recipe)}",
            "custom_load": False,
            "input_size": [3, spec.pixels, spec.pixels],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": stored["mean"].tolist(),
            "std": stored["std"].tolist(),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "apache-2.0",
        },
    }


def card(recipe: Recipe, run: dict, cells: pd.DataFrame) -> str:
    """The model card: what it is, its recipe, its floor, its limits."""
    spec, corpus = recipe.encoder, recipe.corpus
    arm = getattr(recipe.settings, "arm", "")
    name = f"{recipe.pretext}{f' ({arm})' if arm else ''}, {recipe.modality}, {recipe.track} track, seed {recipe.seed}"
    simulated = run["synthetic"]
    lines = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-feature-extraction",
        "license: apache-2.0",
        f"tags: [{', '.join(['pretext-bench', recipe.pretext, recipe.modality, *['synthetic'] * bool(simulated)])}]",
        "---",
        f"# {name}",
        "",
    ]
    if simulated:
        lines += ["**SYNTHETIC: pretrained on simulated phantoms. Not clinical evidence.**", ""]
    if run["budget_flops"] == 0:
        lines += ["**Untrained: this is a twin, the encoder that runs start from.**", ""]
    lines += [
        "```python",
        "import timm",
        'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # forward: the mean patch token',
        "tokens = model.forward_features(images)  # resized to the square, normalised by the config's mean and std",
        "```",
        "",
        "## Recipe",
        "",
        f"- Encoder: ViT of {spec.depth} blocks, width {spec.width}, {spec.heads} heads, {spec.patch}-pixel patches of "
        f"{spec.pixels}-pixel images, {spec.trunk} positions",
        f"- Pretext: {recipe.pretext} version {recipe.pretext_version}, engine {recipe.engine}",
        f"- Corpus: {corpus.name} ({', '.join(member for member, _ in corpus.members)}), {corpus.images:,} images, "
        f"content {corpus.digest}",
        f"- Training: {run['realised_flops']:.3g} FLOPs, {run['images_seen']:,} images seen, {recipe.precision}, "
        f"on {run['device']}",
        f"- Run `{key(recipe)}`, weights SHA-256 `{run['weights_sha256']}`, code `{run['commit']}`"
        + (" with local changes" if run["dirty"] else ""),
        f"- Licences of the images: {'; '.join(_licences(recipe))}",
        "- All of it: `recipe.json`",
        "",
        "## Floor",
        "",
        "Linear probe on mean patch tokens; the twin is the same encoder, untrained.",
        "",
        *_floor(run, cells),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in LIMITS),
        "- One pretraining seed: what is said here is about this checkpoint.",
        "",
    ]
    return "\n".join(lines)


def _floor(run: dict, cells: pd.DataFrame) -> list[str]:
    """A table of headline values beside the twin's."""
    cells = cells[cells["headline"] & cells["probe"].eq("linear") & cells["readout"].eq("patches")]
    asked = ["task", "task_version", "data", "settings"]
    twin = cells[cells["run"].eq(run["twin"])].drop_duplicates(asked)
    own = cells[cells["run"].eq(run["run"])].drop_duplicates(asked)
    rows = own.merge(twin[[*asked, "value"]], on=asked, how="left", suffixes=("", "_twin")).sort_values("task")
    if rows.empty:
        return ["Not probed yet."]
    return [
        "| Task | Metric | Value | Twin | Groups | Leakage |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.task_title}{' (simulated)' if row.synthetic else ''} | {metrics.title(row.metric)} "
            f"| {row.value:.3f} | {'not run' if pd.isna(row.value_twin) else f'{row.value_twin:.3f}'} | {row.groups} "
            f"{cards.plural(row.group_kind, row.groups)} | {row.leakage} |"
            for row in rows.itertuples()
        ),
    ]


def _licences(recipe: Recipe) -> list[str]:
    """Of every member of the corpus that this code knows."""
    known = set(tasks.names(recipe.modality))
    members = [name for name, _ in recipe.corpus.members]
    return [
        f"{name}: {tasks.get(recipe.modality, name).access.licence if name in known else 'see its owner'}"
        for name in members
    ]
