"""Losses and heads of DINOv3 beside independent implementations: lightly's, and float64 arithmetic written out here."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmark import losses
from benchmark.pretexts.dinov3 import Head, Settings
from tests.test_dinov3 import build, shake
from tests.test_numerics import det
from tests.test_pretexts import images  # noqa: F401

lightly_loss = pytest.importorskip("lightly.loss")
lightly_heads = pytest.importorskip("lightly.models.modules.heads")


def same(ours: torch.Tensor, reference: torch.Tensor, inputs: torch.Tensor, tolerance: float) -> None:
    """Value and gradient."""
    assert ours.item() == pytest.approx(reference.item(), rel=tolerance)
    mine, theirs = (torch.autograd.grad(value, inputs, retain_graph=True)[0] for value in (ours, reference))
    assert theirs.abs().max() > 0
    assert torch.allclose(mine, theirs, rtol=0, atol=tolerance * theirs.abs().max().item())


@pytest.mark.parametrize(("student_views", "images_", "prototypes"), [(10, 3, 5), (6, 16, 64), (2, 4, 256)])
def test_dino_equals_lightly_with_a_centre_of_zero(student_views, images_, prototypes):
    student = det((student_views, images_, prototypes), 0.31, 0.2).requires_grad_()
    teacher = det((2, images_, prototypes), 0.53, 0.4)
    reference = lightly_loss.DINOLoss(output_dim=prototypes, teacher_temp=0.25).double()
    expected = reference(list(teacher), list(student))
    same(losses.dino(student, torch.softmax(teacher / 0.25, -1)), expected, student, 1e-12)


def test_ibot_equals_lightly_with_a_centre_of_zero():
    mask = torch.zeros(6, 3, 3, dtype=torch.bool)
    mask[0, 0], mask[2, 1, 1], mask[5] = True, True, True  # 3, 0, 1, 0, 0 and 9 hidden tokens
    student, teacher = det((13, 32), 0.41, 0.2).requires_grad_(), det((13, 32), 0.61, 0.1)
    expected = lightly_loss.IBOTPatchLoss(output_dim=32, teacher_temp=0.25).double()(teacher, student, mask)
    counts = mask.flatten(1).sum(1, keepdim=True)
    weights = (1 / counts).expand(-1, 9)[mask.flatten(1)].double()
    same(losses.ibot(student, torch.softmax(teacher / 0.25, -1), weights, crops=6), expected, student, 1e-12)


@pytest.mark.parametrize("shape", [(6, 8), (2, 3), (64, 192)])
def test_koleo_equals_lightly(shape):
    x = (det(shape, 0.9, 0.1) + det(shape, 2.3, 0.7)).float().requires_grad_()
    same(losses.koleo(x), lightly_loss.KoLeoLoss()(x), x, 1e-5)


def sinkhorn(logits: np.ndarray, temperature: float, rounds: int = 3) -> np.ndarray:
    """SwAV's algorithm as its paper prints it, in float64: no logarithms, counts kept."""
    plan = np.exp(logits.astype(np.float64).T / temperature)
    prototypes, rows = plan.shape
    plan /= plan.sum()
    for _ in range(rounds):
        plan /= plan.sum(axis=1, keepdims=True) * prototypes
        plan /= plan.sum(axis=0, keepdims=True) * rows
    return (plan * rows).T


@pytest.mark.parametrize("temperature", [0.04, 0.07])
@pytest.mark.parametrize(("rows", "prototypes", "size"), [(6, 5, 0.3), (64, 256, 1.0), (16, 1024, 5.0)])
def test_sinkhorn_knopp_equals_the_plain_algorithm_in_float64(rows, prototypes, size, temperature):
    logits = (size * det((rows, prototypes), 0.7, 0.3)).float()
    expected = sinkhorn(logits.numpy(), temperature)
    assert np.abs(losses.sinkhorn_knopp(logits, temperature).numpy() - expected).max() < 1e-6


def test_sinkhorn_knopp_equals_lightlys_of_swav():
    from lightly.loss.swav_loss import sinkhorn as reference

    logits = det((32, 48), 0.7, 0.3).float()
    expected = reference(logits, iterations=3, epsilon=0.07, gather_distributed=False)
    assert torch.allclose(losses.sinkhorn_knopp(logits, 0.07), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["DINOProjectionHead", "DINOv2ProjectionHead"])
def test_the_head_is_lightlys_with_the_weight_norm_multiplied_out(name):
    sizes = {"local_crops": 8, "local_pixels": 96, "momentum": 0.9, "batch": 2, "lr": 1.0}
    head = Head(Settings(prototypes=96, head_width=80, bottleneck=24, **sizes), 48, seed=0)
    reference = getattr(lightly_heads, name)(input_dim=48, hidden_dim=80, bottleneck_dim=24, output_dim=96)
    head.mlp.load_state_dict(reference.layers.state_dict())
    head.last_layer.weight.data.copy_(normalize(reference.last_layer.weight_v, dim=1))
    x = det((7, 48), 0.9, 0.1).float().requires_grad_()
    ours, theirs = head(x), reference(x)
    assert ours.shape == theirs.shape == (7, 96)
    assert torch.allclose(ours, theirs, atol=1e-6)
    same(ours.square().sum(), theirs.square().sum(), x, 1e-5)
    counts = [sum(p.numel() for p in module.parameters()) for module in (head, reference)]
    assert counts[1] - counts[0] == 96  # one gain per prototype, which DINOv3 does not have


def test_the_whole_objective_equals_lightlys_parts(images):  # noqa: F811
    """Targets from Sinkhorn-Knopp in float64 enter lightly as logits at temperature 1."""
    model, seen = build(images)
    shake(model)
    found = model(seen, 0.3)
    with torch.no_grad():
        whole = model.student(seen["globals"], hidden=seen["hidden"], mask_token=model.mask_token)
        local = model.student(seen["locals"])
        teacher = model.teacher(seen["globals"])
        targets = sinkhorn(model.teacher_dino_head(teacher.cls).numpy(), 0.07)
        answers = sinkhorn(model.teacher_ibot_head(teacher.patches[seen["hidden"]]).numpy(), 0.07)
        logits = [model.dino_head(cls) for cls in (*whole.cls.chunk(2), *local.cls.chunk(4))]
        guesses = model.ibot_head(whole.patches[seen["hidden"]])
        dino = lightly_loss.DINOLoss(output_dim=256, teacher_temp=1.0)
        ibot = lightly_loss.IBOTPatchLoss(output_dim=256, teacher_temp=1.0)
        koleo = lightly_loss.KoLeoLoss()
        expected = {
            "dino": dino(list(torch.from_numpy(targets).log().float().chunk(2)), logits),
            "ibot": ibot(torch.from_numpy(answers).log().float(), guesses, seen["hidden"].reshape(16, 4, 4)),
            "koleo": sum(koleo(cls) for cls in whole.cls.chunk(2)),
        }
    expected["loss"] = expected["dino"] + expected["ibot"] + 0.1 * expected["koleo"]
    for name, value in expected.items():
        assert found.parts[name].item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize("name", ["dino", "ibot", "koleo", "gram"])
def test_losses_are_computed_in_fp32_under_autocast(name):
    student, targets = det((4, 6, 32), 0.31, 0.2).float(), torch.softmax(det((2, 6, 32), 0.53, 0.4).float() / 0.07, -1)
    loss = {
        "dino": lambda: losses.dino(student, targets),
        "ibot": lambda: losses.ibot(student[0], targets[0], torch.ones(6), crops=4),
        "koleo": lambda: losses.koleo(student[0]),
        "gram": lambda: losses.gram(student, student.flip(0)),
    }[name]
    expected = loss()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
