"""What is written down of a training while it runs: the losses, to see that they are finite, and at log points its
curves, alarms, and where the time goes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from benchmark.device import machine
from benchmark.pretexts._base import Pretext, Step
from benchmark.training import health

LOG_POINTS = 60  # of a curve, at most


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


class Diverged(Exception):
    """A loss that is not finite. The message names the step, the samples, the terms and the last good checkpoint."""

    def __init__(self, message: str, trained: Trained):
        super().__init__(message)
        self.trained = trained  # up to there


class Journal:
    """Of one session; alike in all processes, but that the main one alone speaks and looks."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Pretext,
        total: int,
        state: dict[str, Any],
        session: Session,
        mode: str,
        label: str,
        watch: health.Watch | None,
    ):
        """total: steps; state: what `state` gave of earlier sessions; watch: where the online probe looks."""
        self.accelerator, self.model, self.total, self.mode, self.label = accelerator, model, total, mode, label
        self.first, self.before, self.curves = state.get("step", 0), state.get("seconds", 0.0), state.get("curves", [])
        self.session = Session(**state.get("session", {})).and_then(session)
        self.watch = watch if total and accelerator.is_main_process else None
        self.batch, self.every = model.settings.batch, max(1, math.ceil(total / LOG_POINTS))
        self.unread: list[tuple[int, list[str], dict[str, Tensor]]] = []  # (step, samples, loss and its terms)
        self.spent = {"data": 0.0, "health": 0.0, "online probe": 0.0}  # seconds of this session
        self.began = time.perf_counter()
        self.bar = tqdm(
            total=total * self.batch,
            initial=self.first * self.batch,
            desc=label,
            unit="img",
            unit_scale=True,
            disable=not (total and accelerator.is_main_process),
            dynamic_ncols=True,
        )

    def begin(self) -> None:
        if self.watch is not None and self.first == 0:
            self._write(0, health.look(self.model.encoder, self.watch))
        if self.mode != "eager" and self.first < self.total:
            said = "the first steps prepare the others and may take minutes; COMPILE=0 trains without"
            self._tell(f"{self.mode}: {said}")

    def is_due(self, done: int) -> bool:
        """Whether a log point comes after that many steps."""
        return done % self.every == 0 or done == self.total

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - start

    def note(self, step: int, samples: list[str], out: Step) -> None:
        """A step is done. Its losses are read at the next log point, not to stall the device."""
        self.unread.append((step, samples, {**out.parts, "loss": out.loss}))
        self.bar.update(self.batch)
        if step == self.first and self.mode != "eager":
            self._tell(f"{self.mode}: the first step took {time.perf_counter() - self.began:,.0f} s")

    def is_finite(self) -> bool:
        """Whether the losses of this process since the last log point are."""
        return not self.unread or bool(torch.isfinite(self._losses()).all())

    def refuse_divergence(self, done: int, last: Path | None) -> None:
        """Raises Diverged, in all processes, where a loss since the last log point is not finite. last: checkpoint."""
        losses = self._mean(self._losses().float()).tolist()
        for (step, samples, terms), loss in zip(self.unread, losses, strict=True):
            if not math.isfinite(loss):
                broken = ", ".join(name for name, value in terms.items() if not math.isfinite(value))
                remedy = f"lower the learning rate, and look at: {broken or 'the data'}"
                name = f"{health.ALARM}the loss is not finite; {remedy}"
                self.curves.append({"step": step, "progress": done / self.total, "name": name, "value": 1.0})
                sentence = (
                    f"loss {loss} at step {step}; samples {', '.join(samples[:8])}{' …' if len(samples) > 8 else ''}; "
                    f"terms that are not finite: {broken or 'none here'}; last good checkpoint: {last or 'none'}"
                )
                raise Diverged(sentence, self.close(None, done))
        self.unread.clear()

    def log(
        self, done: int, out: Step, norms: dict[str, Tensor], rates: dict[str, float], resting: tuple[str, ...]
    ) -> None:
        """A log point, after that many steps. norms: of gradients; resting: sub-modules that do, on purpose."""
        with self.clock("health"):
            measured = {**out.parts, **norms, **health.measure_weights(self.model, resting)}
            values = torch.stack([value.detach().double().to(self.accelerator.device) for value in measured.values()])
            parts = dict(zip(measured, self._mean(values).tolist(), strict=True))
            pooled = self.accelerator.gather(out.pooled.float().contiguous())  # (B, D) of the global batch
            row = {**parts, **health.below_trivial(parts), **rates, **health.measure_features(pooled)}
            row |= self.model.figures({name: self._mean(mean) for name, mean in out.means.items()})
        with self.clock("online probe"):
            looks = [max(0, at) * (health.LOOKS - 1) // self.total for at in (done - self.every, done)]
            if self.watch is not None and looks[0] < looks[1]:
                row |= health.look(self.model.encoder, self.watch)
        seconds = time.perf_counter() - self.began
        row["images per second"] = (done - self.first) * self.batch / seconds
        row |= {f"{what} share": spent / seconds for what, spent in self.spent.items()}
        self._write(done, row | {"seconds": self.before + seconds})
        self.bar.set_postfix(loss=f"{parts['loss']:.3f}", refresh=False)
        rung = {point["name"] for point in self.curves}
        for sentence in health.find_alarms(self.curves, self.model.settings.warmup):
            if health.ALARM + sentence not in rung:
                self._write(done, {health.ALARM + sentence: 1.0})
                self._tell(sentence)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        seconds = self.before + time.perf_counter() - self.began
        return {"seconds": seconds, "curves": self.curves, "session": self.session._asdict()}

    def close(self, model: Pretext | None, done: int) -> Trained:
        seconds = self.before + time.perf_counter() - self.began if self.total else 0.0
        memory = max(gather_object([machine.peak_memory()]))
        return Trained(model, self.curves, seconds, done * self.batch, memory, self.session)

    def _losses(self) -> Tensor:
        return torch.stack([terms["loss"] for _, _, terms in self.unread])

    def _mean(self, x: Tensor) -> Tensor:
        """Over processes."""
        return self.accelerator.reduce(x, "mean")

    def _tell(self, sentence: str) -> None:
        if self.accelerator.is_main_process:
            self.bar.write(f"{self.label}: {sentence}")

    def _write(self, done: int, row: dict[str, float]) -> None:
        at = {"step": done, "progress": done / self.total}
        self.curves.extend({**at, "name": name, "value": value} for name, value in row.items())
