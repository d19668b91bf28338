"""Maps against what they must be, on encoders and tokens that are known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmark.encoders import encoder
from benchmark.maps import patch_maps
from tests.leaderboards.export.test_export import SPECS

GRID = 8


def frozen(spec, seed=1):
    """Weights unlike any initialisation, so that a forgotten scale or norm shows."""
    made = encoder.Encoder(spec, seed=seed).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("name", SPECS)
def test_looking_changes_nothing_and_attention_is_a_share(name):
    spec = SPECS[name]
    made, view = frozen(spec), torch.rand(3, 3, spec.pixels, spec.pixels)
    seen = patch_maps.look(made, view, "patches")
    assert np.allclose(seen.tokens, made(view).patches.detach().numpy(), atol=1e-4)
    assert seen.heads.shape == (3, spec.heads, spec.grid**2)
    total = seen.heads.sum(axis=2)
    assert (total < 1).all() if spec.prefix else np.allclose(total, 1, atol=1e-5)
    assert np.allclose(seen.attention, seen.heads.mean(axis=1))


def test_the_attention_is_that_of_the_last_block_by_hand_and_the_rollout_its_definition():
    spec = SPECS["registers"]
    made, view = frozen(spec), torch.rand(2, 3, spec.pixels, spec.pixels)
    weights = []
    for block in made.vit.blocks:  # timm's own, its fused kernel off: softmax is seen by dropout
        block.attn.attn_drop.register_forward_hook(lambda _, seen, out: weights.append(out))
        block.attn.fused_attn = False
    x, _ = made.sequence(view)
    with torch.no_grad():
        for block in made.vit.blocks:
            x = block(x)
    prefix, rolled = spec.prefix, torch.eye(x.shape[1]).expand(2, -1, -1)
    for one in weights:
        rolled = torch.bmm(0.5 * one.mean(1) + 0.5 * torch.eye(x.shape[1]), rolled)
    cls, patches = patch_maps.look(made, view, "cls"), patch_maps.look(made, view, "patches")
    assert np.allclose(cls.heads, weights[-1][:, :, 0, prefix:], atol=1e-5)
    assert np.allclose(patches.heads, weights[-1][:, :, prefix:, prefix:].mean(2), atol=1e-5)
    assert np.allclose(cls.rollout, rolled[:, 0, prefix:], atol=1e-5)
    assert np.allclose(patches.rollout, rolled[:, prefix:, prefix:].mean(1), atol=1e-5)
    assert np.allclose(cls.lengths, x[:, prefix:].norm(dim=-1), rtol=1e-4)


def test_a_cls_token_that_is_in_no_block_cannot_be_asked():
    with pytest.raises(ValueError, match="ask for the query 'patches'"):
        patch_maps.look(frozen(SPECS["no cls"]), torch.rand(1, 3, 32, 32), "cls")


def test_cosines():
    tokens = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]])
    assert np.allclose(patch_maps.cosine(tokens, 0), [1, 0, 0.5**0.5, -1])


def test_principal_components_are_those_of_the_visible_patches_with_a_fixed_sign():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 16, 6)) * [9, 5, 3, 1, 1, 1]
    visible = rng.random((3, 16)) < 0.8
    tokens[~visible] += 1000.0
    colours, explained = patch_maps.principal_colours(tokens, visible)
    rows = tokens[visible] - tokens[visible].mean(0)
    _, lengths, axes = np.linalg.svd(rows, full_matrices=False)
    assert np.allclose(explained, (lengths**2 / (lengths**2).sum())[:3])
    for component in range(3):
        axis = axes[component] * np.sign(axes[component][np.abs(axes[component]).argmax()])
        scores = rows @ axis
        low, high = np.percentile(scores, [2, 98])
        assert np.allclose(colours[visible][:, component], np.clip((scores - low) / (high - low), 0, 1))
    assert (colours[~visible] == 0.5).all()
    order = rng.permutation(3)
    assert np.allclose(patch_maps.principal_colours(tokens[order], visible[order])[0], colours[order])


def test_black_and_white_patches_show_nothing():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, :8] = 255
    image[0, 8, 0] = 5  # within the noise of what is black
    image[0, 20, 20] = (90, 0, 0)
    (seen,) = patch_maps.find_visible(image, 4)
    assert np.flatnonzero(seen).tolist() == [2 * 4 + 2]


def test_anchors_are_drawn_by_the_image_alone_and_the_first_is_in_the_lesion():
    visible = np.arange(64) % 2 == 0
    drawn = patch_maps.draw_anchors("a", visible)
    assert drawn == patch_maps.draw_anchors("a", visible)
    assert drawn != patch_maps.draw_anchors("b", visible)
    assert len(set(drawn)) == patch_maps.ANCHORS
    assert visible[drawn].all()
    inside = np.zeros(64)
    inside[[9, 10]] = 0.2, 0.7
    assert patch_maps.draw_anchors("a", visible, inside)[0] == 10
    assert patch_maps.draw_anchors("a", visible, inside)[1:] == drawn[:2]
    assert (
        len(patch_maps.draw_anchors("a", np.zeros(64, bool))) == patch_maps.ANCHORS
    )  # an image all black has anchors too


def test_an_anchor_is_the_patch_at_a_place():
    assert patch_maps.find_patch((0.0, 0.0), GRID) == 0
    assert patch_maps.find_patch((0.99, 0.5), GRID) == 4 * GRID + 7
    with pytest.raises(ValueError, match=r"anchor 1\.2,0 lies outside the image"):
        patch_maps.find_patch((1.2, 0.0), GRID)


def test_artefacts_are_tokens_of_twice_the_median_length():
    lengths = np.full((2, 16), 10.0)
    lengths[1, 3], lengths[0, 0] = 20.1, 19.9
    assert np.argwhere(patch_maps.find_artefacts(lengths)).tolist() == [[1, 3]]


def lesion(*patches: int) -> np.ndarray:
    mask = np.zeros((GRID, GRID), bool)
    mask.flat[list(patches)] = True
    return mask.repeat(8, axis=0).repeat(8, axis=1)


def test_a_map_that_finds_the_lesion_scores_high_and_its_reverse_low():
    mask = lesion(27, 28)
    good = np.zeros(64)
    good[[27, 28]] = 1.0, 0.9
    found, lost = patch_maps.score("attention", good, mask, 0), patch_maps.score("attention", -good, mask, 0)
    assert (found["pointing game"], lost["pointing game"]) == (1.0, 0.0)
    assert found["pointing game, chance"] == found["AUPRC, chance"] == 2 / 64
    assert lost["AUPRC"] < 2 / 64 < 0.9 < found["AUPRC"]
    edge = lesion(27)
    edge[:] = False
    edge[31, 31] = True  # one pixel of patch 27 is enough for the pointing game
    assert patch_maps.score("attention", good, edge, 0)["pointing game"] == 1.0


def test_the_score_of_a_random_map_is_about_chance():
    rng, mask = np.random.default_rng(0), lesion(*range(16, 32))
    found = [patch_maps.score("attention", rng.normal(size=64), mask, 0) for _ in range(400)]
    assert np.mean([one["pointing game"] for one in found]) == pytest.approx(0.25, abs=0.08)
    assert np.mean([one["AUPRC"] for one in found]) == pytest.approx(0.25, abs=0.05)


def test_enlarging_keeps_the_order_of_a_map_of_one_edge():
    values = np.repeat([0.0, 1.0], 32)
    mask = np.repeat([False, True], 32)[:, None].repeat(64, axis=1)
    assert roc_auc_score(mask.ravel(), patch_maps.enlarge(values, 64).ravel()) > 0.999


def test_the_hit_rate_counts_the_nearest_patches_that_touch_the_lesion():
    mask, values = lesion(10, 11, 12, 13), np.zeros(64)
    values[[10, 11, 12, 40]] = 1.0, 0.9, 0.8, 0.7  # the third nearest lies outside
    found = patch_maps.score("cosine", values, mask, 10)
    assert found == {"hit rate": pytest.approx(2 / 3), "hit rate, chance": pytest.approx(3 / 63)}
    assert patch_maps.score("cosine", values, lesion(10), 10) == {}  # no other patch to find


def test_likeness_is_a_rank_correlation():
    values = np.arange(16.0)
    assert patch_maps.correlate(values, np.exp(values)) == pytest.approx(1)
    assert patch_maps.correlate(values, -values) == pytest.approx(-1)
    assert np.isnan(patch_maps.correlate(values, np.ones(16)))
