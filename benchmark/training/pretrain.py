"""One pretraining: trained by the loop and stored as a run."""

import os
import shutil
from datetime import UTC, datetime

import torch

from benchmark import tracks
from benchmark.device import machine
from benchmark.encoders import encoder as encoders
from benchmark.recipe import Recipe, Runtime, columns, key
from benchmark.storage import checkpoint, results, schema
from benchmark.training import health
from benchmark.training.data import Images
from benchmark.training.journal import Diverged, Trained
from benchmark.training.loop import train

DECODER = "decoder.safetensors"  # beside the encoder of a pretext that predicts pixels


def pretrain(
    recipe: Recipe,
    runtime: Runtime,
    images: Images,
    label: str = "",
    synthetic: bool = False,
    watch: health.Watch | None = None,
) -> None:
    """Train a recipe and store its run: row, curves and encoder. A diverged run is stored too, and says so."""
    target = results.run_directory(runtime.results, recipe.modality, key(recipe))
    if target.exists():
        return
    staging = runtime.cache / "checkpoints" / f"{key(recipe)}.encoder.safetensors"
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        trained, status = train(recipe, runtime, images, label, watch), "finished"
    except Diverged as error:
        print(f"{label}: diverged: {error}")
        trained, status = error.trained, "diverged"
    if int(os.environ.get("RANK", "0")):
        return
    sha = encoders.save(trained.model.encoder, staging) if trained.model is not None else ""
    row = run_row(recipe, runtime, trained, status, sha, synthetic)
    rows = [{"run": key(recipe), **point} for point in trained.curves]
    files = {"encoder.safetensors": staging} if sha else {}
    if sha and (decoder := trained.model.decoder_state()):
        files[DECODER] = staging.with_name(f"{key(recipe)}.{DECODER}")
        checkpoint.write(decoder, files[DECODER])
    tables = {"runs": schema.table("runs", [row]), "curves": schema.table("curves", rows)}
    results.write(target, tables, files=files)
    for path in files.values():
        path.unlink(missing_ok=True)
    shutil.rmtree(runtime.cache / "checkpoints" / key(recipe), ignore_errors=True)


def run_row(
    recipe: Recipe, runtime: Runtime, trained: Trained, status: str, sha: str, synthetic: bool
) -> dict[str, object]:
    flops = tracks.image_flops(recipe)
    commit, dirty = machine.commit()
    return {
        **columns(recipe),
        "synthetic": synthetic,
        "expected_flops": tracks.steps(recipe) * recipe.settings.batch * flops,
        "realised_flops": trained.images * flops,
        "steps": tracks.steps(recipe),
        "images_seen": trained.images,
        "seconds": trained.seconds,
        "peak_memory_bytes": trained.peak_memory,
        "energy_joules": None,
        "status": status,
        "weights_sha256": sha,
        "commit": commit,
        "dirty": dirty,
        "versions": machine.versions(),
        "device": " and ".join(trained.session.devices),
        "threads": torch.get_num_threads(),
        "processes": runtime.processes,
        "compiled": trained.session.compiled,
        "micro": trained.session.micro,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
