"""Frozen features: which tokens are read, from which view; registers never are."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.encoders.encoder import Encoder
from benchmark.probing import features
from tests.parity import NANO, noise


def store(pixels: int) -> SimpleNamespace:
    return SimpleNamespace(ids=[f"s{i}" for i in range(6)], pixels=noise(6, pixels).numpy())


@pytest.mark.parametrize("options", [{}, {"trunk": "rope", "registers": 4}, {"cls": False}], ids=str)
def test_features_are_the_cls_token_and_the_mean_of_patches_and_no_register(options):
    spec = replace(NANO, **options)
    encoder, images = Encoder(spec, seed=0), store(32)
    found = features.extract(encoder, images)
    x = torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        tokens = []
        encoder.vit.norm.register_forward_hook(lambda _, __, out: tokens.append(out.unflatten(0, (6, -1))))
        encoder(x)
    (whole,) = tokens
    assert whole.shape[1] == spec.prefix + 16
    assert found["patches"] == pytest.approx(whole[:, spec.prefix :].mean(1).numpy(), abs=1e-6)
    assert ("cls" in found) == spec.cls
    if spec.cls:
        assert found["cls"] == pytest.approx(whole[:, 0].numpy(), abs=1e-6)
        both = features.readout(found, "cls+patches")
        assert np.array_equal(both, np.concatenate([found["cls"], found["patches"]], axis=1))


def test_the_evaluation_view_is_the_whole_image_and_never_random():
    images = store(48)
    first, again = (features.evaluation_view(images.pixels, 32, torch.device("cpu")) for _ in "ab")
    assert torch.equal(first, again)
    x = torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255
    assert torch.equal(first, F.interpolate(x, size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1))
    same = features.evaluation_view(images.pixels, 48, torch.device("cpu"))
    assert torch.equal((same * 255).round().byte(), torch.from_numpy(images.pixels).permute(0, 3, 1, 2))
