"""The pretraining loop, through Accelerate: CPU, one GPU or many processes; resumable at any step."""

import math
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from tqdm import tqdm

from benchmark import checkpoint, health, machine, registry, results, schedules, tracks
from benchmark import encoder as encoders
from benchmark.data import Batches, Images
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Recipe, Runtime, canonical, key, twin

LOG_POINTS = 60  # rows of a curve


class Diverged(Exception):
    """A loss that is not finite. The message names the step, the samples and the last good checkpoint."""


class Trained(NamedTuple):
    model: Pretext
    curves: list[dict[str, object]]
    seconds: float
    images: int
    peak_memory: int
    device: str


def build(recipe: Recipe, images: Images) -> Pretext:
    """The untrained model of a recipe: the encoder's weights depend on spec and seed alone."""
    module = registry.load("pretexts", recipe.pretext)
    encoder = encoders.Encoder(recipe.encoder, seed=recipe.seed)
    mean, std = images.moments()
    encoder.mean.copy_(torch.from_numpy(mean))
    encoder.std.copy_(torch.from_numpy(std))
    return module.Model(module.Settings(**recipe.settings), encoder, recipe.modality, seed=recipe.seed + 10_000)


def parameter_groups(model: Pretext) -> list[dict[str, object]]:
    """One group per trained parameter; weight decay on everything but biases and one-dimensional parameters."""
    return [
        {"params": [p], "name": name, "decays": p.ndim > 1} for name, p in model.named_parameters() if p.requires_grad
    ]


def set_schedules(
    optimiser: torch.optim.Optimizer, model: Pretext, settings: object, progress: float
) -> dict[str, float]:
    s = settings
    lr = schedules.warmup_cosine(progress, peak=s.lr, warmup=s.warmup, start=s.start_lr, end=s.end_lr)
    decay = schedules.cosine(progress, start=s.weight_decay, end=s.end_weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = lr * model.lr_scale(group["name"], progress)
        group["weight_decay"] = decay if group["decays"] else 0.0
    return {"lr": lr, "weight decay": decay}


def clip(model: Pretext, limit: float | None) -> dict[str, Tensor]:
    """Gradient norm of every sub-module, each clipped on its own where a limit is given."""
    norms = {}
    for name, module in model.named_children():
        trained = [p for p in module.parameters() if p.grad is not None]
        if trained:
            norms[f"gradient norm {name}"] = nn.utils.clip_grad_norm_(trained, math.inf if limit is None else limit)
    return norms


def train(recipe: Recipe, runtime: Runtime, images: Images, label: str = "") -> Trained:
    """Run the recipe to its end, from its last checkpoint if there is one. Raises Diverged."""
    gpu = torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if accelerator.num_processes != runtime.processes:
        raise RuntimeError(f"{runtime.processes} processes were asked for, {accelerator.num_processes} are running")
    machine.reset_peak_memory()
    torch.set_flush_denormal(True)
    model = build(recipe, images).to(accelerator.device)
    settings, total = model.settings, tracks.steps(recipe)
    optimiser = torch.optim.AdamW(parameter_groups(model), lr=settings.lr, betas=(0.9, settings.beta2), fused=gpu)
    folder = runtime.cache / "checkpoints" / key(recipe)
    start, seconds, curves = 0, 0.0, []
    if last := checkpoint.latest(folder):
        state = checkpoint.load(last, model, optimiser)
        start, seconds, curves = state["step"], state["seconds"], state["curves"]
    wrapped, prepared = accelerator.prepare(model, optimiser) if total else (model, optimiser)
    batches = Batches(images, recipe, accelerator.device, accelerator.process_index, accelerator.num_processes)
    every = max(1, total // LOG_POINTS)
    unread: list[tuple[int, list[str], Tensor]] = []
    began = saved = time.perf_counter()
    waited = 0.0
    bar = tqdm(
        total=total * settings.batch,
        initial=start * settings.batch,
        desc=label,
        unit="img",
        unit_scale=True,
        disable=not (total and accelerator.is_main_process),
        dynamic_ncols=True,
    )
    model.train()
    for step in range(start, total):
        progress = (step + 0.5) / total
        rates = set_schedules(optimiser, model, settings, progress)
        asked = time.perf_counter()
        pixels, draws, ids = batches(step)
        views = model.views(pixels, draws)
        waited += time.perf_counter() - asked
        out = wrapped(views, progress)
        unread.append((step, ids, out.loss.detach()))
        accelerator.backward(out.loss)
        norms = clip(model, settings.clip)
        prepared.step()
        prepared.zero_grad()
        model.after_step(progress)
        bar.update(settings.batch)

        done = step + 1
        now = time.perf_counter()
        due = now - saved > runtime.checkpoint_seconds
        if done % every == 0 or done == total or due:
            refuse_non_finite(unread, last)
            unread.clear()
        if done % every == 0 or done == total:
            figures = health.figures(out.pooled)
            parts = {name: float(value) for name, value in {**out.parts, **norms}.items()}
            elapsed = seconds + now - began
            rate = {
                "images per second": (done - start) * settings.batch / (now - began),
                "data share": waited / (now - began),
            }
            row = {**parts, **rates, **figures, **rate, "seconds": elapsed}
            curves += [{"step": done, "progress": done / total, "name": k, "value": v} for k, v in row.items()]
            bar.set_postfix(loss=f"{parts['loss']:.3f}", refresh=False)
            if done == total:
                for sentence in health.alarms(figures, parts, progress):
                    bar.write(f"{label}: {sentence}")
        if due and accelerator.is_main_process:
            state = {"seconds": seconds + now - began, "curves": curves}
            checkpoint.save(folder, done, model, optimiser, state)
            last, saved = folder / f"step-{done:08d}", now
    bar.close()
    seconds += time.perf_counter() - began if total else 0.0
    peak = torch.cuda.max_memory_allocated() if gpu else machine.peak_memory()
    name = torch.cuda.get_device_name() if gpu else machine.cpu()
    return Trained(model, curves, seconds, total * settings.batch, peak, name)


def refuse_non_finite(unread: list[tuple[int, list[str], Tensor]], last: Path | None) -> None:
    """Raises Diverged at the first loss that is not finite. Read together, not to stall the device at each step."""
    finite = torch.isfinite(torch.stack([loss for _, _, loss in unread])).tolist()
    for (step, ids, loss), good in zip(unread, finite, strict=True):
        if not good:
            raise Diverged(
                f"loss {float(loss)} at step {step}; samples {', '.join(ids[:8])}{' …' if len(ids) > 8 else ''}; "
                f"last good checkpoint: {last or 'none'}"
            )


def pretrain(recipe: Recipe, runtime: Runtime, images: Images, label: str = "", synthetic: bool = False) -> None:
    """Train a recipe and store its run: row, curves and encoder. A diverged run is stored too, and says so."""
    target = results.run_directory(runtime.results, recipe.modality, key(recipe))
    if target.exists():
        return
    staging = runtime.cache / "checkpoints" / f"{key(recipe)}.encoder.safetensors"
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        trained, status = train(recipe, runtime, images, label), "finished"
    except Diverged as error:
        print(f"{label}: diverged: {error}")
        trained, status = Trained(None, [], 0.0, 0, machine.peak_memory(), machine.cpu()), "diverged"
    if int(os.environ.get("RANK", "0")):
        return
    sha = encoders.save(trained.model.encoder, staging) if trained.model is not None else ""
    row = run_row(recipe, runtime, trained, status, sha, synthetic)
    rows = [{"run": key(recipe), **point} for point in trained.curves]
    files = {"encoder.safetensors": staging} if sha else {}
    tables = {"runs": results.table("runs", [row]), "curves": results.table("curves", rows)}
    results.write(target, tables, files=files)
    staging.unlink(missing_ok=True)
    shutil.rmtree(runtime.cache / "checkpoints" / key(recipe), ignore_errors=True)


def run_row(
    recipe: Recipe, runtime: Runtime, trained: Trained, status: str, sha: str, synthetic: bool
) -> dict[str, object]:
    flops = tracks.image_flops(recipe)
    commit, dirty = machine.commit()
    return {
        "run": key(recipe),
        "recipe": canonical(recipe),
        "modality": recipe.modality,
        "corpus": recipe.corpus.name,
        "corpus_digest": recipe.corpus.digest,
        "corpus_images": recipe.corpus.images,
        "synthetic": synthetic,
        "track": recipe.track,
        "pretext": recipe.pretext,
        "pretext_version": recipe.pretext_version,
        "seed": recipe.seed,
        "twin": key(twin(recipe)),
        "engine": recipe.engine,
        "budget_flops": recipe.budget,
        "expected_flops": tracks.steps(recipe) * recipe.settings["batch"] * flops,
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
        "device": trained.device,
        "threads": torch.get_num_threads(),
        "processes": runtime.processes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
