"""The loop: resume equals uninterrupted, golden micro-runs, two processes equal one, divergence is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from benchmark import registry, tracks
from benchmark.device import machine
from benchmark.lab import goldens
from benchmark.lab.goldens import short
from benchmark.pretexts import dinov3
from benchmark.recipe import Runtime, key
from benchmark.storage import checkpoint, results
from benchmark.training import journal, loop, modes, optimise, pretrain, stopping
from benchmark.training.data import Images

ROOT = Path(__file__).parents[3]
NAMES = registry.names("pretexts")


def runtime(folder: Path, **changes: object) -> Runtime:
    return Runtime(data=folder / "data", results=folder / "results", cache=folder / "cache", **changes)


def losses(trained: journal.Trained) -> list[float]:
    return [row["value"] for row in trained.curves if row["name"] == "loss"]


@pytest.mark.parametrize("name", NAMES)
def test_resume_equals_uninterrupted(name, images, tmp_path, monkeypatch):
    whole = loop.train(short(name), runtime(tmp_path / "whole"), images)

    def save_and_die(folder, step, *rest):
        keep(folder, step, *rest)
        if step == 3:
            raise Killed

    keep = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", save_and_die)
    part = runtime(tmp_path / "part", checkpoint_seconds=0.0)
    with pytest.raises(Killed):
        loop.train(short(name), part, images)
    monkeypatch.setattr(checkpoint, "save", keep)
    resumed = loop.train(short(name), part, images)
    for parameter, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[parameter]), parameter
    assert losses(whole) == losses(resumed)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [spoil, lambda path: path.write_bytes(path.read_bytes()[:-7]), Path.unlink])
@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(images, tmp_path, capsys, file, damage):
    run = short("mae")
    place = runtime(tmp_path, checkpoint_seconds=0.0)
    whole = loop.train(run, place, images)
    folder = place.cache / "checkpoints" / key(run)
    last, before = checkpoint.stored(folder)
    if file == "state.json" and damage is spoil:
        (last / file).write_text("{")
    else:
        damage(last / file)
    model = optimise.build_model(run, images)
    found, state = checkpoint.load(folder, model, optimise.build_optimiser(model))
    assert (found, state["step"]) == (before, int(before.name.removeprefix("step-")))
    assert f"{last}: damaged checkpoint" in capsys.readouterr().err
    again = loop.train(run, place, images)
    assert all(torch.equal(value, again.model.state_dict()[key]) for key, value in whole.model.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(images, tmp_path):
    model = optimise.build_model(short("mae"), images)
    checkpoint.save(tmp_path, 1, model, optimise.build_optimiser(model), {})
    other = optimise.build_model(short("ijepa"), images)
    with pytest.raises(ValueError, match=r"not a checkpoint of this run .* delete"):
        checkpoint.load(tmp_path, other, optimise.build_optimiser(other))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_who_asks_to_stop_gets_a_checkpoint_first_and_the_run_goes_on_bit_by_bit(images, tmp_path, monkeypatch, number):
    whole = loop.train(short("mae"), runtime(tmp_path / "whole"), images)
    place, forward = runtime(tmp_path / "part", checkpoint_seconds=1e9), registry.load("pretexts", "mae").Model.forward

    def stopping_forward(self, views, progress):
        if 0.4 < progress < 0.6:
            os.kill(os.getpid(), number)
        return forward(self, views, progress)

    with monkeypatch.context() as patch:
        patch.setattr(registry.load("pretexts", "mae").Model, "forward", stopping_forward)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else stopping.Stopped):
            loop.train(short("mae"), place, images)
    assert len(checkpoint.stored(place.cache / "checkpoints" / key(short("mae")))) == 1
    resumed = loop.train(short("mae"), place, images)
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())


def test_asking_again_stops_at_once(monkeypatch):
    monkeypatch.setattr(stopping, "ECHO", 0.0)

    def impatient():
        with stopping.postpone() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked() == signal.SIGTERM
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)
            raise AssertionError("not reached")

    with pytest.raises(stopping.Stopped, match="SIGUSR1"):
        impatient()


def test_who_is_leaving_is_not_disturbed_again():
    script = """
import os, signal, sys
from benchmark.training import stopping
stopping.listen()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except stopping.Stopped as end:
    stopping.ignore()
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(end.code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_who_asks_while_modules_are_imported_is_heard(number, code):
    script = f"""
import os, signal
from benchmark import __main__
signal.signal(signal.SIGINT, signal.default_int_handler)
class Asks:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), {int(number)})
def app():
    type("Imported", (), {{"field": Asks()}})
__main__.app = app
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("\nstopped; everything finished is kept")


RESUMED = ("mae", "ijepa:official", "dinov3")
HEALTH = ("rankme", "feature deviation", "pairwise cosine", "between-image share of target variance")


class Killed(Exception):
    pass


def watched(
    name: str,
    place: Runtime,
    images: Images,
    until: int | None = None,
) -> tuple[journal.Trained | None, dict[int, tuple]]:
    """A run of six steps, or killed before step `until`; and what this process saw at each step: sample ids, views."""
    seen, model = {}, registry.load("pretexts", name.partition(":")[0]).Model
    take, view = loop.Batches.__call__, model.views

    def batch(self, step):
        if step == until:
            raise Killed
        taken = take(self, step)
        seen[step] = (taken[2],)
        return taken

    def views(self, pixels, draws):
        made = view(self, pixels, draws)
        seen[max(seen)] += ({name: value for name, value in made.items() if name not in dinov3.OF_TOKENS},)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Batches, "__call__", batch)
        patch.setattr(model, "views", views)
        try:
            return loop.train(short(name), place, images), seen
        except Killed:
            return None, seen


def curve(trained: journal.Trained, name: str) -> list[float]:
    return [row["value"] for row in trained.curves if row["name"] == name]


def whole_and_resumed(folder: Path) -> None:
    """In each of two processes: every run whole, and killed after three steps and resumed. What was seen goes to a file
    of each rank, the checkpoint of the killed run also to `alone`."""
    found, squares = {}, goldens.images()
    for name in RESUMED:
        whole, seen = watched(name, runtime(folder / "whole" / name, processes=2), squares)
        place = runtime(folder / "killed" / name, processes=2, checkpoint_seconds=0.0)
        watched(name, place, squares, until=3)
        dist.barrier()
        if dist.get_rank() == 0:
            shutil.copytree(folder / "killed" / name, folder / "alone" / name)
        dist.barrier()
        resumed, again = watched(name, place, squares)
        assert list(again) == [3, 4, 5]
        assert losses(resumed) == losses(whole)
        state = whole.model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in resumed.model.state_dict().items())
        same(again, {step: seen[step] for step in again})
        found[name] = seen, {key: curve(whole, key) for key in ("loss", "lr", "weight decay", *HEALTH)}
    torch.save(found, folder / f"{dist.get_rank()}.pt")


def same(one: dict[int, tuple], other: dict[int, tuple]) -> None:
    """The same samples, masks and crops at every step."""
    assert one.keys() == other.keys()
    for step, (ids, views) in one.items():
        assert ids == other[step][0]
        assert all(
            torch.allclose(value.float(), other[step][1][key].float(), atol=1e-6) for key, value in views.items()
        )


def joined(ranks: list[tuple]) -> tuple:
    """What the processes saw at a step, as one process sees it: crops of an image are rows a batch apart."""
    views = {
        key: torch.cat([views[key].unflatten(0, (-1, len(ids))) for ids, views in ranks], dim=1).flatten(0, 1)
        for key in ranks[0][1]
    }
    return [i for ids, _ in ranks for i in ids], views


def test_two_processes_resume_bit_by_bit_and_one_process_goes_on_with_the_same_samples_masks_and_crops(
    images,
    tmp_path,
):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.benchmark.training.test_training import whole_and_resumed\n"
        "whole_and_resumed(Path(sys.argv[1]))\n"
        "import torch.distributed as dist; dist.barrier(); dist.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, tmp_path]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in RESUMED:
        alone, seen = watched(name, runtime(tmp_path / "alone" / name), images)
        together = {step: joined([rank[name][0][step] for rank in ranks]) for step in (3, 4, 5)}
        same(seen, together)
        curves = ranks[0][name][1]
        assert curve(alone, "loss") == pytest.approx(curves["loss"], rel=1e-4)
        for rate in ("lr", "weight decay"):
            assert curve(alone, rate) == curves[rate], "schedules know optimiser steps, not processes"
        for figure in HEALTH:
            assert curve(alone, figure) == pytest.approx(curves[figure], rel=1e-3), "of the global batch"


def test_a_loss_that_is_not_finite_stops_the_run_and_is_stored(images, tmp_path, monkeypatch, capsys):
    module = registry.load("pretexts", "mae")
    forward = module.Model.forward

    def poisoned(self, views, progress):
        step = forward(self, views, progress)
        return step._replace(loss=step.loss * (float("nan") if progress > 0.5 else 1.0))

    monkeypatch.setattr(module.Model, "forward", poisoned)
    place, run = runtime(tmp_path), short("mae")
    pretrain.pretrain(run, place, images, "label")
    assert "diverged: loss nan at step 3; samples noise/" in capsys.readouterr().out
    rows = results.read(place.results, "runs")
    assert rows.status.tolist() == ["diverged"]
    (row,) = rows.itertuples()
    assert row.images_seen == 8 * (goldens.STEPS // 2 + 1)
    assert row.realised_flops == row.images_seen * tracks.image_flops(run)
    assert row.seconds > 0
    assert row.peak_memory_bytes > 0
    assert row.device == machine.device_name()
    assert not (results.run_directory(place.results, "histo", key(run)) / "encoder.safetensors").exists()


def test_a_wrong_world_size_is_refused(images, tmp_path):
    with pytest.raises(RuntimeError, match="2 processes were asked for, 1 are running"):
        loop.train(short("mae"), runtime(tmp_path, processes=2), images)


@pytest.mark.parametrize("name", [name for name in NAMES if registry.load("pretexts", name).Model.separable])
def test_micro_batches_add_up_to_the_whole(name, images, tmp_path):
    """Three images at a time of eight: the last piece is smaller."""
    whole = loop.train(short(name), runtime(tmp_path / "whole"), images)
    pieces = loop.train(short(name), runtime(tmp_path / "pieces", micro=3), images)
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-5)
    assert all(curve(pieces, rate) == curve(whole, rate) for rate in ("lr", "weight decay"))
    assert len(pieces.curves) == len(whole.curves)


@pytest.mark.parametrize("name", [name for name in NAMES if not registry.load("pretexts", name).Model.separable])
def test_micro_batches_are_refused_where_images_are_compared(name, images, tmp_path):
    with pytest.raises(ValueError, match=f"{name} cannot be cut into micro-batches of 3: .* leave MICRO out"):
        loop.train(short(name), runtime(tmp_path, micro=3), images)


@pytest.mark.parametrize("name", ["mae", "dinov3"])
def test_out_of_memory_says_what_would_fit(name, images, tmp_path, monkeypatch):
    module = registry.load("pretexts", name)
    forward = module.Model.forward

    def greedy(self, views, progress):
        if progress > 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 EiB")
        return forward(self, views, progress)

    monkeypatch.setattr(module.Model, "forward", greedy)
    remedy = r"MICRO=\d+ computes the same step" if name == "mae" else r"micro-batches would change it; use GPUS=\d"
    with pytest.raises(MemoryError, match=rf"step 3 with 8 images at once; about \d+ would fit \(measured .* {remedy}"):
        loop.train(short(name), runtime(tmp_path), images)


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_has_the_loss_of_a_plain_one_and_is_not_compiled_anew(
    images,
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.setattr(modes, "FP32_PIXELS", 16)
    plain = losses(loop.train(short("dinov3"), runtime(tmp_path / "plain"), images))
    torch._dynamo.utils.counters.clear()
    compiled = loop.train(short("dinov3"), runtime(tmp_path / "compiled", compile="1"), images)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    loop.train(short("dinov3", 12), runtime(tmp_path / "longer", compile="1"), images)
    assert losses(compiled) == pytest.approx(plain, rel=1e-4)
    assert "COMPILE=0 trains without" in capsys.readouterr().out
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2 * graphs


def test_skipped_and_taken_images_keep_their_order():
    parts = [np.full((2, 4, 4, 3), 1, np.uint8), np.full((1, 4, 4, 3), 9, np.uint8)]
    found = Images(["a/0", "b/0", "a/1"], parts, np.array([[0, 0], [1, 0], [0, 1]]), ())
    assert found.take(np.array([1, 0]))[:, 0, 0, 0].tolist() == [9, 1]
    mean, std = found.moments()
    assert mean == pytest.approx([11 / 3 / 255] * 3)
    assert (std > 0).all()
