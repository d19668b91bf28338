"""The rules of recommended recipes: the same for every pretext and size, and kept by what the tracks make of them."""

from dataclasses import asdict, replace

import pytest

from benchmark import registry, tracks
from benchmark.parts import rules
from benchmark.recipe import Corpus, Recipe

CORPUS = Corpus(name="phantom", members=(), digest="0" * 12, images=4000)
SIZES = (tracks.NANO, tracks.MICRO, tracks.TINY, tracks.SMALL, tracks.BASE)
TAUGHT = ("ijepa", "dinov3")  # by a teacher that moves


def recipe(pretext: str, track: str) -> Recipe:
    return tracks.recipe(track, pretext, modality="histo", corpus=CORPUS, policy="none", seed=0)


def arms() -> list[str]:
    """Every pretext and arm but those of the authors."""
    named = ((name, getattr(registry.load("pretexts", name), "ARMS", {})) for name in registry.names("pretexts"))
    return [f"{name}:{arm}" if arm else name for name, found in named for arm in ("", *found) if arm != "official"]


@pytest.mark.parametrize("encoder", SIZES)
def test_all_pretexts_have_one_batch_and_one_learning_rate(encoder):
    asked = rules.optimisation(encoder).items()
    for pretext in arms():
        made = registry.settings(pretext, encoder)
        assert {name: getattr(made, name) for name, _ in asked}.items() == asked, pretext


def test_the_rate_grows_with_the_root_of_the_batch_and_falls_with_that_of_the_width():
    assert rules.rate(64, tracks.MICRO) == 1e-3
    assert rules.rate(256, tracks.MICRO) == pytest.approx(2e-3)
    assert rules.rate(256, replace(tracks.MICRO, width=512)) == pytest.approx(1e-3)
    assert [rules.batch(encoder) for encoder in SIZES] == [64, 64, 256, 256, 256]


@pytest.mark.parametrize("track", [name for name in tracks.names() if name.partition("-")[0] not in ("smoke", "demo")])
@pytest.mark.parametrize("pretext", TAUGHT)
def test_a_teacher_averages_over_its_share_of_the_steps_on_every_track(track, pretext):
    made = recipe(pretext, track)
    assert made.settings.horizon == rules.HORIZON
    assert 1 / (1 - made.settings.momentum) == pytest.approx(rules.HORIZON * tracks.steps(made))


def test_a_short_run_has_a_teacher_still_and_a_share_is_one():
    assert rules.momentum(0.1, 14) == rules.momentum(0.1, 0) == pytest.approx(0.9)
    assert rules.momentum(0.1, 1000) == pytest.approx(0.99)
    for wrong in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=f"horizon={wrong}: a share of the optimiser steps, above 0 and at most 1"):
            rules.momentum(wrong, 100)


def test_authors_arms_keep_their_momentum_and_no_other_setting_follows_from_steps():
    for pretext, momentum in (("ijepa:official", 0.996), ("dinov3:official", 0.992)):
        made = recipe(pretext, "laptop").settings
        assert (made.horizon, made.momentum) == (None, momentum)
    for pretext in registry.names("pretexts"):
        short, long = asdict(recipe(pretext, "demo").settings), asdict(recipe(pretext, "1e14").settings)
        assert {name for name in short if short[name] != long[name]} == ({"momentum"} if pretext in TAUGHT else set())


def test_weight_decay_is_each_methods_own_or_one():
    own = dict.fromkeys(("mae", "salt", "simmim"), (0.05, 0.05)) | dict.fromkeys(TAUGHT, (0.04, 0.4))
    for name, decays in own.items():
        made = registry.settings(name, tracks.MICRO)
        assert (made.weight_decay, made.end_weight_decay) == decays, name
