"""The pretraining loop, through Accelerate: CPU, one GPU or many processes; resumable at any step."""

import time
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn
from torch.optim import Optimizer

from benchmark import tracks
from benchmark.device import arithmetic, machine
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Recipe, Runtime, key
from benchmark.storage import checkpoint
from benchmark.training import health, modes, optimise, stopping
from benchmark.training.data import Batches, Images
from benchmark.training.journal import Journal, Session, Trained
from benchmark.training.out_of_memory import Memory


class Ready(NamedTuple):
    """A training that is about to begin, or to go on."""

    accelerator: Accelerator
    model: Pretext
    wrapped: nn.Module  # the same, its gradients averaged over processes
    optimiser: Optimizer
    batches: Batches
    mode: str  # see `modes`
    micro: int | None  # images at once of the share of a process; None: all
    last: Path | None  # the checkpoint that it goes on from
    state: dict[str, object]  # of the loop, from there


def set_up(recipe: Recipe, runtime: Runtime, images: Images, total: int, place: Path) -> Ready:
    """total: optimiser steps; without any, nothing is prepared for them. place: of the checkpoints."""
    gpu = arithmetic.prepare(runtime.threads).type == "cuda"
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if accelerator.num_processes != runtime.processes:
        raise RuntimeError(f"{runtime.processes} processes were asked for, {accelerator.num_processes} are running")
    machine.reset_peak_memory()
    model = optimise.build_model(recipe, images).to(accelerator.device)
    optimiser = optimise.build_optimiser(model)
    last, state = checkpoint.load(place, model, optimiser) or (None, {})
    mode = modes.choose(runtime.compile, recipe.encoder.pixels, gpu, runtime.micro)
    batches = Batches(images, recipe, model.draw, accelerator.device, accelerator.process_index, runtime.processes)
    if not total:
        return Ready(accelerator, model, model, optimiser, batches, "eager", None, last, state)
    micro = runtime.micro if runtime.micro is not None and runtime.micro < batches.size else None
    if micro is not None and not model.separable:
        raise ValueError(
            f"{recipe.pretext} cannot be cut into micro-batches of {micro}: its loss compares the images of a batch; "
            "leave MICRO out, or spread the batch over more processes"
        )
    modes.accelerate(model, mode)
    wrapped, optimiser = accelerator.prepare(model, optimiser)
    return Ready(accelerator, model, wrapped, optimiser, batches, mode, micro, last, state)


def train(
    recipe: Recipe, runtime: Runtime, images: Images, label: str = "", watch: health.Watch | None = None
) -> Trained:
    """Run the recipe to its end, from its last checkpoint if there is one. Raises Diverged, MemoryError with what
    would fit, and what `stopping` raises, after a checkpoint. watch: where the online probe looks; it changes no
    other number."""
    # set-up
    total, place = tracks.steps(recipe), runtime.cache / "checkpoints" / key(recipe)
    accelerator, model, wrapped, optimiser, batches, mode, micro, last, state = set_up(
        recipe, runtime, images, total, place
    )
    devices, compiled = gather_object([machine.device_name()]), modes.compiles(mode, recipe.encoder.pixels)
    session = Session(tuple(devices), compiled, micro)
    journal = Journal(accelerator, model, total, state, session, mode, label, watch)
    memory = Memory(recipe, accelerator.device, micro or batches.size, model.separable)
    saved = time.perf_counter()
    model.train()
    journal.begin()
    with stopping.postpone() as asked_to_stop, journal.bar:
        for step in range(journal.first, total):
            # step
            progress, done = (step + 0.5) / total, step + 1
            resting = model.resting(progress) if journal.is_due(done) else None
            rates = optimise.set_schedules(optimiser, model, progress)
            with memory.explained(step):
                with journal.clock("data"):
                    pixels, drawn, samples = batches(step)
                    views = model.views(pixels, drawn)
                out = optimise.backward(accelerator, wrapped, views, progress, micro)
                norms = optimise.clip(model, resting)
                optimiser.step()
            optimiser.zero_grad()
            model.after_step(progress)
            # log
            journal.note(step, samples, out)
            if journal.is_due(done):
                journal.refuse_divergence(done, last)
                journal.log(done, out, norms, rates, resting)
            due = asked_to_stop() is not None or time.perf_counter() - saved > runtime.checkpoint_seconds
            if due and accelerator.is_main_process and journal.is_finite():
                last, saved = checkpoint.save(place, done, model, optimiser, journal.state()), time.perf_counter()
            if asked_to_stop() is not None:
                break
    return journal.close(model, total)
