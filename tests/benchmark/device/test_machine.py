"""The device is asked once, of torch, and what is stored of it is what was; torch's GPUs are played here."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmark import run, tracks
from benchmark.__main__ import app
from benchmark.device import arithmetic, doctor, machine
from benchmark.encoders import encoder
from benchmark.execution import batches, slurm
from benchmark.lab import goldens
from benchmark.probing import features
from benchmark.recipe import EncoderSpec, Runtime, twin
from benchmark.storage import feature_store, results
from benchmark.training import journal, loop, modes, pretrain
from tasks.store import Store
from tests.benchmark.training.test_training import runtime, short

ROOT = Path(__file__).parents[3]
SPEC = EncoderSpec(width=16, depth=1, heads=2, patch=8, pixels=16)


@pytest.fixture
def cards(monkeypatch):
    """Let torch have GPUs of these names, 80 GB each; this process computes on the last."""

    def play(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: len(names) - 1)
        made = [SimpleNamespace(name=name, total_memory=80 * 10**9) for name in names]
        monkeypatch.setattr(torch.cuda, "get_device_properties", made.__getitem__)

    return play


@pytest.fixture
def driver(monkeypatch):
    """Let the driver show a GPU, whatever torch can use."""
    monkeypatch.setattr(machine, "driver", lambda: ("NVIDIA H100",))


def test_the_device_is_what_torch_says_and_nobody_else_is_asked(cards, monkeypatch):
    monkeypatch.setattr(machine, "_output", lambda *command: pytest.fail(f"asked {command[0]}"))
    cards("A100", "H100")
    found = machine.device()
    assert (found.type, found.gpus, found.names, found.memory) == ("cuda", 2, ("A100", "H100"), (80 * 10**9,) * 2)
    assert machine.device_name() == "H100"
    cards()
    assert (machine.device().type, machine.device().gpus, machine.device_name()) == ("cpu", 0, machine.cpu())


def test_precision_follows_torch_and_small_tracks_are_fp32_on_every_device(cards, driver):
    cards()
    assert {tracks.default_precision(track) for track in ("smoke", "demo", "laptop-images", "1e16", "1e17")} == {"fp32"}
    cards("H100")
    assert {tracks.default_precision(track) for track in ("smoke", "demo", "laptop-images")} == {"fp32"}
    assert {tracks.default_precision(track) for track in ("1e16", "1e17-images")} == {"bf16"}


def test_an_empty_list_of_visible_gpus_is_a_machine_without():
    code = (
        "from benchmark import tracks\nfrom benchmark.device import machine\n"
        "print(machine.device().type, tracks.default_precision('1e16'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "fp32"]


@pytest.mark.parametrize("arguments", [["plan"], ["run"], ["run", "--pack", "2"], ["run", "--stage", "pretrain"]])
def test_more_gpus_than_torch_sees_are_refused_before_anything_is_done(cards, tmp_path, arguments):
    cards(*["H100"] * 4)
    places = [word for name in ("results", "cache") for word in (f"--{name}", str(tmp_path / name))]
    done = CliRunner().invoke(app, [*arguments, "--track", "smoke", "--gpus", "8", *places])
    assert isinstance(done.exception, ValueError)
    assert "GPUS=8: torch sees 4 here (H100, H100, H100, H100)" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_processes_share_the_processors(cards):
    cards()
    machine.refuse_missing_gpus(8)
    cards("H100", "H100")
    machine.refuse_missing_gpus(2)
    with pytest.raises(ValueError, match="GPUS=3: torch sees 2 here"):
        machine.refuse_missing_gpus(3)


def test_packing_takes_no_more_gpus_than_there_are(cards, tmp_path):
    cards("H100", "H100")
    with pytest.raises(ValueError, match="GPUS=3: torch sees 2 here"):
        batches.run_batches([("zzzz",)], [], 3, 1, tmp_path, print)


@pytest.mark.parametrize(
    ("visible", "devices"), [(None, ["0", "1"]), ("3, 5", ["3", "5"]), ("GPU-a,MIG-b", ["GPU-a", "MIG-b"])]
)
def test_a_slot_gets_one_of_the_gpus_that_this_process_may_see(monkeypatch, visible, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [batches._name_gpu(slot) for slot in (0, 1)] == devices


def test_the_doctor_tells_a_hidden_gpu_from_one_that_torch_cannot_use(cards, driver, monkeypatch):
    def said() -> tuple[str, str]:
        (check,) = [check for check in doctor._torch() if check.name.startswith("GPU")]
        return check.state, check.found

    cards()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert said() == ("note", "CUDA_VISIBLE_DEVICES hides all; training runs on the processors")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert said() == ("fail", "NVIDIA H100 is there, torch cannot use it")
    cards("H100")
    assert said() == ("ok", "H100, 80 GB")


def test_jobs_of_a_cluster_are_told_the_precision_of_their_machines(cards, tmp_path, monkeypatch):
    """The machine that submits has no GPU; ids of runs depend on the precision."""
    cards()
    monkeypatch.setattr(slurm, "submit", lambda plan, arguments, folder: arguments)
    profile = tmp_path / "site.toml"
    profile.write_text("gpus = 1\n")
    places = [word for name in ("results", "cache") for word in (f"--{name}", str(tmp_path / name))]
    asked = ["run", "--track", "1e16", "--modality", "histo", "--pretext", "mae", "--launch", "slurm", *places]
    asked += ["--corpus", "phantom", "--data", "data"]
    for more, precision in (([], "fp32"), (["--profile", str(profile)], "bf16"), (["--precision", "bf16"], "bf16")):
        done = CliRunner().invoke(app, [*asked, *more], catch_exceptions=False)
        assert f"--precision\n{precision}\n" in done.output


def images() -> Store:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    return Store("abc", tuple(f"i{n}" for n in range(10)), pixels, ())


def test_whatever_ran_before_features_are_fp32_without_tf32():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    features.extract(encoder.Encoder(SPEC, seed=0), images())
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)
    assert torch.tensor(1e-40) * 1.0 == 0.0


def test_features_of_another_kind_of_device_or_rule_have_another_folder(cards, tmp_path, monkeypatch):
    def folder() -> Path:
        return feature_store.folder(tmp_path, "a" * 64, SPEC, "store")

    cards()
    made = [folder()]
    cards("H100")
    made.append(folder())
    monkeypatch.setattr(arithmetic, "RULE", "another")
    assert len({*made, folder()}) == 3


def test_the_peak_of_a_run_is_its_own(cards, monkeypatch):
    peaks = [7]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peaks[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peaks.append(0))
    cards("H100")
    assert machine.peak_memory() == 7
    machine.reset_peak_memory()
    assert machine.peak_memory() == 0
    cards()
    assert machine.peak_memory() > 10**7


def test_the_memory_of_a_gpu_is_given_back_before_other_processes_train_on_it(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("released"))
    monkeypatch.setattr(run.torchrun, "pretrain", lambda *_: done.append("launched"))
    monkeypatch.setattr(run, "watched", lambda study: [])
    member = SimpleNamespace(source=SimpleNamespace(synthetic=True))
    study = SimpleNamespace(pinned=SimpleNamespace(members=[member]), spec="phantom", modality="histo")
    run.train(study, short("mae"), runtime(tmp_path, processes=2), {}, "", {}, "label")
    assert done == ["released", "launched"]


def test_goldens_are_computed_on_the_processor_of_a_machine_with_a_gpu(cards):
    here = goldens.losses("mae")
    cards("H100")
    assert goldens.losses("mae") == here
    assert "H100" not in goldens.fingerprint()


def test_what_was_asked_for_and_not_in_force_is_not_recorded(tmp_path):
    asked = Runtime(data=tmp_path, results=tmp_path, cache=tmp_path, micro=8)
    trained = loop.train(short("mae"), asked, goldens.images())
    assert trained.session == journal.Session((machine.cpu(),), False, None)  # a batch is 8 images


def test_compilation_and_threads_are_recorded_where_they_were_in_force(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(modes, "FP32_PIXELS", 16)
    monkeypatch.setattr(modes, "accelerate", lambda model, mode: taken.append(mode))
    before = torch.get_num_threads()
    asked = Runtime(data=tmp_path, results=tmp_path / "results", cache=tmp_path, compile="1", threads=before + 1)
    try:
        for made in (short("mae"), twin(short("mae"))):
            pretrain.pretrain(made, asked, goldens.images())
    finally:
        torch.set_num_threads(before)
    rows = results.read(tmp_path / "results", "runs").set_index("budget_flops").sort_index()
    assert rows.compiled.tolist() == [False, True]
    assert taken == ["compiled"]
    assert set(rows.threads) == {before + 1}


def test_a_run_that_went_on_elsewhere_names_both_devices_and_what_either_did():
    first, second = journal.Session(("H100",), True, None), journal.Session(("A100",), False, 8)
    assert first.and_then(second) == journal.Session(("A100", "H100"), True, 8)
    assert second.and_then(journal.Session(("A100",), False, 16)) == journal.Session(("A100",), False, 8)
