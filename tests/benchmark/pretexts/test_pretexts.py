"""What every pretext and every arm of one must do: gradients, teachers, views and losses of any number of processes,
bf16, FLOPs. A new file of benchmark/pretexts/ is held to it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, tracks
from benchmark.lab import goldens
from benchmark.parts import flops
from benchmark.pretexts import dinov3
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Recipe
from benchmark.training import health, optimise
from benchmark.training.data import Batches, Images, positions
from tests.parity import shake

ROOT = Path(__file__).parents[3]
NAMES = registry.names("pretexts")
EVERY = [
    f"{name}:{arm}".removesuffix(":")
    for name in NAMES
    for arm in ("", *getattr(registry.load("pretexts", name), "ARMS", ()))
]
SEPARABLE = [name for name in EVERY if registry.load("pretexts", name.partition(":")[0]).Model.separable]
STAGES = [0.1, 0.9]  # of training: before and after what changes in it


def recipe(pretext: str, **changes: object) -> Recipe:
    return replace(goldens.recipe(pretext), **changes)


def batches(made: Recipe, model: Pretext, images: Images, rank: int = 0, world: int = 1) -> Batches:
    return Batches(images, made, model.draw, torch.device("cpu"), rank, world)


def views(pretext: str, images: Images, step: int = 0) -> tuple[Pretext, dict[str, torch.Tensor]]:
    made = recipe(pretext)
    model = optimise.build_model(made, images)
    return model, model.views(*batches(made, model, images)(step)[:2])


@pytest.mark.parametrize("progress", STAGES)
@pytest.mark.parametrize("name", EVERY)
def test_every_trained_parameter_gets_a_gradient_and_no_teacher_does(name, progress, images):
    model, seen = views(name, images)
    step = model(seen, progress)
    step.loss.backward()
    for parameter, value in model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, parameter
        assert value.grad is None or torch.isfinite(value.grad).all(), parameter
        if parameter.startswith(("teacher", "gram_teacher")):
            assert not value.requires_grad, parameter
    assert torch.isfinite(step.loss)
    assert step.pooled.shape == (8, model.spec.width)


@pytest.mark.parametrize("name", NAMES)
def test_all_pretexts_start_from_the_same_encoder(name, images):
    first = optimise.build_model(recipe("mae"), images).encoder.state_dict()
    other = optimise.build_model(recipe(name), images).encoder.state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", EVERY)
def test_probes_read_the_teacher_where_one_follows_the_student(name, images):
    model = optimise.build_model(recipe(name), images)
    assert model.encoder is (model.teacher if "teacher" in dict(model.named_children()) else model.student)
    assert ("teacher" in dict(model.named_children())) or not name.startswith(("ijepa", "dinov3"))


def test_those_that_run_unless_others_are_asked_for():
    assert {"dinov3", "ijepa", "mae"} <= set(registry.defaults("pretexts"))
    assert {"salt", "simmim"} <= set(NAMES) - set(registry.defaults("pretexts"))


@pytest.mark.parametrize("track", ["smoke", "demo", "1e16"])
@pytest.mark.parametrize("name", EVERY)
def test_every_track_pays_for_every_arm(track, name):
    made = tracks.recipe(track, name, modality="histo", corpus=goldens.CORPUS, policy="none", seed=0)
    assert made.settings.arm == name.partition(":")[2]
    assert tracks.steps(made) > 5
    assert 0.8 * made.budget < tracks.steps(made) * made.settings.batch * tracks.image_flops(made) <= made.budget


def test_curves_say_how_far_each_term_has_come(images):
    """What a board asks of a run: each term's share below what knows nothing, and the entropy of DINOv3's teacher."""
    expected = {
        "mae": {"loss below trivial"},
        "ijepa": {"loss below trivial", "between-image share of target variance"},
        "dinov3": {"dino below trivial", "ibot below trivial", "teacher entropy / ln K"},
    }
    for name in expected:
        model, seen = views(name, images)
        step = model(seen, 0.5)
        parts = {part: float(value) for part, value in step.parts.items()}
        told = parts | health.below_trivial(parts) | model.figures(dict(step.means))
        assert expected[name] <= told.keys()
        assert all(0 <= told[figure] <= 1.05 for figure in expected[name] if not figure.endswith("below trivial"))


@pytest.mark.parametrize("name", ["ijepa", "dinov3"])
def test_the_teacher_follows_the_student_after_the_step(name, images):
    model, _ = views(name, images)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1.0
    before = [p.clone() for p in model.teacher.parameters()]
    model.after_step(0.0)
    moved = [(p - b) for p, b in zip(model.teacher.parameters(), before, strict=True)]
    expected = 1 - model.settings.momentum
    assert all(torch.allclose(m, torch.full_like(m, expected), atol=1e-4) for m in moved)
    model.after_step(1.0)
    assert all(torch.allclose(p - b, m) for p, b, m in zip(model.teacher.parameters(), before, moved, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_views_do_not_depend_on_the_number_of_processes(name, images):
    made = recipe(name)
    model = optimise.build_model(made, images)
    whole, *halves = (batches(made, model, images, *place)(step=5) for place in ((0, 1), (0, 2), (1, 2)))
    assert whole[2] == halves[0][2] + halves[1][2]
    seen, *parts = (model.views(*one[:2]) for one in (whole, *halves))
    for key, value in seen.items():
        if key in dinov3.OF_TOKENS and "dinov3" in name:
            continue  # follows from hidden
        joined = torch.cat([part[key].unflatten(0, (-1, 4)) for part in parts], dim=1).flatten(0, 1)
        assert torch.allclose(joined.float(), value.float(), atol=1e-6), key


@pytest.mark.parametrize("progress", STAGES)
@pytest.mark.parametrize("name", SEPARABLE)
def test_two_halves_of_a_batch_equal_the_whole(name, progress, images):
    """The mean of two processes' gradients, each with half of the batch, is the gradient of one with all of it."""
    made, found = recipe(name), []
    model = optimise.build_model(made, images)
    for world in (1, 2):
        model.zero_grad()
        for rank in range(world):
            (model(model.views(*batches(made, model, images, rank, world)(0)[:2]), progress).loss / world).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad})
    for parameter, whole in found[0].items():
        assert torch.allclose(found[1][parameter], whole, rtol=1e-4, atol=1e-5), parameter


def cases() -> dict[str, tuple[Recipe, Images]]:
    """Every arm on noise, and MAE on scans, some of which are half background: processes count different numbers."""
    noise = goldens.images()
    pixels = noise.parts[0].copy()
    pixels[::3, 16:] = 0
    scans = recipe("mae", modality="ultrasound"), noise._replace(parts=[pixels])
    return {name: (recipe(name), noise) for name in EVERY} | {"mae on scans": scans}


def one_step_of_every_arm() -> dict[str, torch.Tensor]:
    """Losses and gradients, late in training, over all processes of this world; and centres after the step."""
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    place, found = (accelerator.process_index, accelerator.num_processes), {}
    for name, (made, images) in cases().items():
        model = optimise.build_model(made, images)
        shake(model)
        wrapped, seen = accelerator.prepare(model), model.views(*batches(made, model, images, *place)(2)[:2])
        step = wrapped(seen, 0.9)
        accelerator.backward(step.loss)
        found[f"{name} loss"] = accelerator.reduce(step.loss.detach(), "mean")
        found |= {f"{name} {key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
        model.after_step(0.9)
        found |= {f"{name} {key}": value for key, value in model.state_dict().items() if "centre" in key}
    return found


def test_processes_count_different_numbers_of_patches_on_scans():
    made, images = cases()["mae on scans"]
    model = optimise.build_model(made, images)
    counts = [model.views(*batches(made, model, images, rank, 2)(2)[:2])["background"].sum() for rank in range(2)]
    assert counts[0] != counts[1]


def test_two_processes_equal_one_in_every_arm(tmp_path):
    """One process with the global batch and two with half of it each (gloo): the same losses, gradients, centres."""
    script, out = tmp_path / "worker.py", tmp_path / "found.pt"
    script.write_text(
        "import sys; sys.path.insert(0, '.')\n"
        "import os, torch\n"
        "from tests.benchmark.pretexts.test_pretexts import one_step_of_every_arm\n"
        "found = one_step_of_every_arm()\n"
        "if os.environ['RANK'] == '0': torch.save(found, sys.argv[1])\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, script, out], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = one_step_of_every_arm(), torch.load(out)
    assert one.keys() == two.keys()
    assert all(one[f"dinov3 {term}_centre.mean"].abs().min() > 0 for term in ("dino", "ibot"))
    for name, value in one.items():
        assert torch.allclose(two[name], value, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("progress", STAGES)
@pytest.mark.parametrize("name", EVERY)
def test_bf16_is_finite_and_near_fp32(name, progress, images):
    model, seen = views(name, images)
    full = model(seen, progress)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(seen, progress)
    half.loss.backward()
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["mae", "mae:official", "simmim"])
def test_flop_formulas_equal_the_counter(name, images):
    """Exactly, forward and backward, but for the gradient that images do not need."""
    model, seen = views(name, images)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = model(seen, 0.5).loss
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    module, spec = registry.load("pretexts", name.partition(":")[0]), model.spec
    formula = 8 * module.flops(model.settings, spec)
    assert 3 * forward.get_total_flops() == formula
    embedding = 8 * flops.patch_embed(spec.grid**2, spec)
    assert forward.get_total_flops() + backward.get_total_flops() == formula - embedding


@pytest.mark.parametrize("name", ["mae", "simmim"])
def test_eight_images_can_be_overfitted(name, images):
    """To a tenth of what predicts nothing. The images are smooth, so that what is hidden can be told."""
    model, seen = views(name, images)
    seen["images"] = seen["images"][:, :, :8, :8].repeat_interleave(4, 2).repeat_interleave(4, 3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    for _ in range(300):
        step = model(seen, 0.5)
        if step.loss < 0.1 * step.parts["trivial loss"]:
            return
        step.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    pytest.fail(f"loss {step.loss.item():.3f} after 300 steps")


def test_epochs_are_permutations():
    images = Images([], [], np.zeros((20, 2), int), ())
    seen = [positions(images, 1, step, 8) for step in range(5)]
    first = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 0])
    second = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 1])
    assert sorted(first) == sorted(second) == list(range(20))
    assert first.tolist() != second.tolist()
