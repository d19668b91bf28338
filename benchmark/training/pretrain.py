"""The pretraining loop, through Accelerate: CPU, one GPU or many processes; resumable at any step."""

import math
import os
import shutil
import time
from collections.abc import Hashable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm import tqdm

from benchmark import registry, tracks
from benchmark.device import arithmetic, machine
from benchmark.encoders import encoder as encoders
from benchmark.parts import schedules
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import Recipe, Runtime, columns, key
from benchmark.storage import checkpoint, results, schema
from benchmark.training import health, modes, out_of_memory, stopping
from benchmark.training.data import Batches, Images

LOG_POINTS = 60  # of a curve, at most
DECODER = "decoder.safetensors"  # beside the encoder of a pretext that predicts pixels


class Diverged(Exception):
    """A loss that is not finite. The message names the step, the samples, the terms and the last good checkpoint."""

    def __init__(self, message: str, trained: "Trained"):
        super().__init__(message)
        self.trained = trained  # up to there


class Session(NamedTuple):
    """How a training was computed, in all its processes."""

    devices: tuple[str, ...] = ()  # names
    compiled: bool = False
    micro: int | None = None  # images at once of the share of a process; None: all

    def and_then(self, later: "Session") -> "Session":
        """Both, of a training that was gone on with: all devices, whether either was compiled, the smaller pieces."""
        micro = min((size for size in (self.micro, later.micro) if size is not None), default=None)
        return Session(tuple(sorted({*self.devices, *later.devices})), self.compiled or later.compiled, micro)


class Trained(NamedTuple):
    """A training as it was."""

    model: Pretext | None  # None: diverged
    curves: list[dict[str, object]]
    seconds: float  # of all sessions
    images: int
    peak_memory: int  # bytes, of the process that held most
    session: Session


def untrained(recipe: Recipe, images: Images) -> encoders.Encoder:
    """The encoder that a recipe starts from: its weights depend on spec and seed alone."""
    encoder = encoders.Encoder(recipe.encoder, seed=recipe.seed)
    mean, std = images.moments()
    encoder.mean.copy_(torch.from_numpy(mean))
    encoder.std.copy_(torch.from_numpy(std))
    return encoder


def build(recipe: Recipe, images: Images) -> Pretext:
    """The untrained model of a recipe."""
    module, encoder = registry.load("pretexts", recipe.pretext), untrained(recipe, images)
    return module.Model(recipe.settings, encoder, recipe.modality, seed=recipe.seed + 10_000)


def parameter_groups(model: Pretext) -> list[dict[str, object]]:
    """The trained parameters, a group for each pair of weight decay (on everything but biases and one-dimensional
    parameters) and learning rate."""
    groups: dict[tuple[bool, Hashable], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter.ndim > 1, model.rate_group(name)), []).append(parameter)
    return [{"params": params, "decays": decays, "rate": rate} for (decays, rate), params in groups.items()]


def set_schedules(
    optimiser: torch.optim.Optimizer, model: Pretext, settings: object, progress: float
) -> dict[str, float]:
    s = settings
    lr = schedules.warmup_cosine(progress, peak=s.lr, warmup=s.warmup, start=s.start_lr, end=s.end_lr)
    decay = schedules.cosine(progress, start=s.weight_decay, end=s.end_weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = lr * model.lr_scale(group["rate"], progress)
        group["weight_decay"] = decay if group["decays"] else 0.0
    return {"lr": lr, "weight decay": decay}


def clip(model: Pretext, limit: float | None, resting: tuple[str, ...] | None) -> dict[str, Tensor]:
    """Clip the gradient of every sub-module on its own where a limit is given. Returns the norms before that of all
    but the resting ones, or nothing if resting is None."""
    norms = {}
    for name, module in model.named_children() if limit is not None or resting is not None else ():
        trained = [p for p in module.parameters() if p.requires_grad]
        if trained:
            norm = nn.utils.clip_grad_norm_(trained, math.inf if limit is None else limit)
            if resting is not None and name not in resting:
                norms[f"gradient norm {name}"] = norm
    return norms


def backward(accelerator: Accelerator, model: nn.Module, views: dict, progress: float, micro: int | None) -> Step:
    """Forward and backward of this process's batch, `micro` images at a time (None: all at once)."""
    size = len(next(iter(views.values())))
    if micro is None or micro >= size:
        step = model(views, progress)
        accelerator.backward(step.loss)
        return step._replace(loss=step.loss.detach())
    steps, shares = [], []
    for start in range(0, size, micro):
        piece = {name: value[start : start + micro] for name, value in views.items()}
        last = start + micro >= size
        with nullcontext() if last else accelerator.no_sync(model):
            step = model(piece, progress)
            shares.append(min(micro, size - start) / size)
            accelerator.backward(step.loss * shares[-1])
        steps.append(step._replace(loss=step.loss.detach()))
    parts, means = (averaged([getattr(step, name) for step in steps], shares) for name in ("parts", "means"))
    loss = sum(share * step.loss for share, step in zip(shares, steps, strict=True))
    return Step(loss, parts, torch.cat([step.pooled for step in steps]), means)


def averaged(found: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """Each of several batches' means -> those of all of them together; shares: of the images."""
    return {name: sum(share * means[name] for share, means in zip(shares, found, strict=True)) for name in found[0]}


def gathered(accelerator: Accelerator, pooled: Tensor) -> Tensor:
    """Features (b, D) of every process -> of the global batch, (B, D) fp32."""
    return accelerator.gather(pooled.float().contiguous())


def train(
    recipe: Recipe, runtime: Runtime, images: Images, label: str = "", watch: health.Watch | None = None
) -> Trained:
    """Run the recipe to its end, from its last checkpoint if there is one. Raises Diverged, MemoryError with what
    would fit, and what `stopping` raises, after a checkpoint. watch: where the online probe looks; it changes no
    other number."""
    gpu = arithmetic.prepare(runtime.threads).type == "cuda"
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if accelerator.num_processes != runtime.processes:
        raise RuntimeError(f"{runtime.processes} processes were asked for, {accelerator.num_processes} are running")
    machine.reset_peak_memory()
    model = build(recipe, images).to(accelerator.device)
    settings, total = model.settings, tracks.steps(recipe)
    optimiser = torch.optim.AdamW(parameter_groups(model), lr=settings.lr, betas=(0.9, settings.beta2), fused=True)
    folder = runtime.cache / "checkpoints" / key(recipe)
    start, seconds, curves, earlier, last = 0, 0.0, [], Session(), None
    if found := checkpoint.load(folder, model, optimiser):
        last, state = found
        start, seconds, curves = state["step"], state["seconds"], state["curves"]
        earlier = Session(**state.get("session", {}))
    mode = modes.choose(runtime.compile, recipe.encoder.pixels, gpu, runtime.micro)
    if total:
        modes.accelerate(model, mode)
    wrapped, prepared = accelerator.prepare(model, optimiser) if total else (model, optimiser)
    batches = Batches(images, recipe, model.draw, accelerator.device, accelerator.process_index, runtime.processes)
    micro = runtime.micro if total and runtime.micro is not None and runtime.micro < batches.size else None
    if micro is not None and not model.separable:
        raise ValueError(
            f"{recipe.pretext} cannot be cut into micro-batches of {micro}: its loss compares the images of a batch; "
            "leave MICRO out, or spread the batch over more processes"
        )
    names = gather_object([machine.device_name()])
    compiled = total > 0 and modes.compiles(mode, recipe.encoder.pixels)
    session = earlier.and_then(Session(tuple(names), compiled, micro))
    memory = out_of_memory.Memory(recipe, accelerator.device, micro or batches.size, model.separable)
    every = max(1, math.ceil(total / LOG_POINTS))
    unread: list[tuple[int, list[str], dict[str, Tensor]]] = []
    began = saved = time.perf_counter()
    waited = judging = looking = 0.0
    bar = tqdm(
        total=total * settings.batch,
        initial=start * settings.batch,
        desc=label,
        unit="img",
        unit_scale=True,
        disable=not (total and accelerator.is_main_process),
        dynamic_ncols=True,
    )

    def tell(sentence: str) -> None:
        if accelerator.is_main_process:
            bar.write(f"{label}: {sentence}")

    def log(done: int, row: dict[str, float]) -> None:
        curves.extend({"step": done, "progress": done / total, "name": k, "value": v} for k, v in row.items())

    def trained(model: Pretext | None, curves: list[dict[str, object]], images: int) -> Trained:
        spent = seconds + time.perf_counter() - began if total else 0.0
        return Trained(model, curves, spent, images, max(gather_object([machine.peak_memory()])), session)

    watching = watch is not None and total > 0 and accelerator.is_main_process
    if watching and start == 0:
        log(0, health.look(model.encoder, watch))
    model.train()
    if mode != "eager" and start < total:
        tell(f"{mode}: the first steps prepare the others and may take minutes; COMPILE=0 trains without")
    with stopping.postponed() as asked_to_stop, bar:
        for step in range(start, total):
            progress, done = (step + 0.5) / total, step + 1
            logged = done % every == 0 or done == total
            resting = model.resting(progress) if logged else None
            rates = set_schedules(optimiser, model, settings, progress)
            asked = time.perf_counter()
            with memory.explained(step):
                pixels, drawn, ids = batches(step)
                views = model.views(pixels, drawn)
                waited += time.perf_counter() - asked
                out = backward(accelerator, wrapped, views, progress, micro)
                norms = clip(model, settings.clip, resting)
                prepared.step()
            unread.append((step, ids, {**out.parts, "loss": out.loss}))
            prepared.zero_grad()
            model.after_step(progress)
            bar.update(settings.batch)
            if step == start and mode != "eager":
                tell(f"{mode}: the first step took {time.perf_counter() - began:,.0f} s")

            if logged:
                if failure := non_finite(accelerator, unread, done / total, last):
                    raise Diverged(failure.sentence, trained(None, [*curves, failure.row], done * settings.batch))
                unread.clear()
                asked = time.perf_counter()
                measured = {**out.parts, **norms, **health.weights(model, resting)}
                values = torch.stack([value.detach().double().to(accelerator.device) for value in measured.values()])
                parts = dict(zip(measured, accelerator.reduce(values, "mean").tolist(), strict=True))
                row = {
                    **parts,
                    **health.below_trivial(parts),
                    **rates,
                    **health.figures(gathered(accelerator, out.pooled)),
                }
                row |= model.figures({name: accelerator.reduce(mean, "mean") for name, mean in out.means.items()})
                judging += time.perf_counter() - asked
                asked = time.perf_counter()
                if watching and done * (health.LOOKS - 1) // total > max(0, done - every) * (health.LOOKS - 1) // total:
                    row |= health.look(model.encoder, watch)
                now = time.perf_counter()
                looking += now - asked
                row |= {
                    "images per second": (done - start) * settings.batch / (now - began),
                    "data share": waited / (now - began),
                    "health share": judging / (now - began),
                    "online probe share": looking / (now - began),
                    "seconds": seconds + now - began,
                }
                log(done, row)
                bar.set_postfix(loss=f"{parts['loss']:.3f}", refresh=False)
                rung = {point["name"] for point in curves}
                for sentence in health.alarms(curves, settings.warmup):
                    if health.ALARM + sentence not in rung:
                        log(done, {health.ALARM + sentence: 1.0})
                        tell(sentence)
            now = time.perf_counter()
            due = asked_to_stop() is not None or now - saved > runtime.checkpoint_seconds
            if accelerator.is_main_process and due and all_finite(unread):
                state = {"seconds": seconds + now - began, "curves": curves, "session": session._asdict()}
                last, saved = checkpoint.save(folder, done, model, optimiser, state), now
            if asked_to_stop() is not None:
                break
    return trained(model, curves, total * settings.batch)


def all_finite(unread: list[tuple[int, list[str], dict[str, Tensor]]]) -> bool:
    return not unread or bool(torch.isfinite(torch.stack([parts["loss"] for _, _, parts in unread])).all())


class Failure(NamedTuple):
    """The first loss that is not finite."""

    sentence: str
    row: dict[str, object]  # of the curves


def non_finite(
    accelerator: Accelerator,
    unread: list[tuple[int, list[str], dict[str, Tensor]]],
    progress: float,
    last: Path | None,
) -> Failure | None:
    """Alike in all processes. Losses are read together, not to stall the device at each step."""
    losses = accelerator.reduce(torch.stack([parts["loss"] for _, _, parts in unread]).float(), "mean").tolist()
    for (step, ids, parts), loss in zip(unread, losses, strict=True):
        if not math.isfinite(loss):
            terms = ", ".join(name for name, value in parts.items() if not math.isfinite(value))
            name = f"{health.ALARM}the loss is not finite; lower the learning rate, and look at: {terms or 'the data'}"
            row = {"step": step, "progress": progress, "name": name, "value": 1.0}
            return Failure(
                f"loss {loss} at step {step}; samples {', '.join(ids[:8])}{' …' if len(ids) > 8 else ''}; "
                f"terms that are not finite: {terms or 'none here'}; last good checkpoint: {last or 'none'}",
                row,
            )
    return None


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
