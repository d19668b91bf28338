"""Every way to fail that has a figure trips its alarm in a real run, and healthy runs trip none; the online probe."""

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.encoders.encoder import Encoder
from benchmark.parts import flops
from benchmark.parts.nets import follow
from benchmark.recipe import key
from benchmark.storage import results
from benchmark.training import health, journal, loop, optimise, pretrain
from benchmark.training.data import Images
from tasks import splits
from tasks.base import Access, Fixed, Folds, Sample, Task
from tests.benchmark.pretexts.test_pretexts import recipe
from tests.benchmark.training.test_training import runtime, short

STEPS = 20


@pytest.fixture(scope="module")
def images() -> Images:
    """Gratings of random direction, wavelength and colour: each patch says something about the others."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    angle, wave, phase = (rng.uniform(0, high, (96, 1, 1)) for high in (math.pi, 0.5, 6))
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (0.2 + wave) + phase)[..., None]
    pixels = (127 + 80 * stripes * rng.uniform(0.3, 1, (96, 1, 1, 3)) + rng.uniform(-40, 40, (96, 1, 1, 3))).round()
    rows = np.stack([np.zeros(96, int), np.arange(96)], axis=1)
    return Images([f"grating/{i}" for i in range(96)], [pixels.clip(0, 255).astype(np.uint8)], rows, ())


def rung(trained: journal.Trained) -> list[str]:
    return [row["name"] for row in trained.curves if row["name"].startswith(health.ALARM)]


def values(trained: journal.Trained, name: str) -> list[float]:
    return [row["value"] for row in trained.curves if row["name"] == name]


def tampered(monkeypatch, tamper) -> None:
    """Every model built from here on goes through tamper."""
    build = optimise.build_model

    def built(*arguments):
        model = build(*arguments)
        tamper(model)
        return model

    monkeypatch.setattr(optimise, "build_model", built)


def after_every_step(monkeypatch, pretext: str, then) -> None:
    """The pretext's own after_step, followed by then(model, progress)."""
    module = registry.load("pretexts", pretext)
    own = module.Model.after_step

    def both(self, progress):
        own(self, progress)
        with torch.no_grad():
            then(self, progress)

    monkeypatch.setattr(module.Model, "after_step", both)


@pytest.mark.parametrize("pretext", ["mae", "ijepa"])
def test_a_healthy_short_run_trips_nothing(pretext, images, tmp_path):
    trained = loop.train(short(pretext, 40), runtime(tmp_path), images)
    assert rung(trained) == []
    assert values(trained, "loss below trivial")[-1] > 0.02
    assert values(trained, "weight norm student")[0] != values(trained, "weight norm student")[-1]


def test_dinov3_trips_nothing_but_its_slowness(images, tmp_path):
    """Forty steps of eight images do not leave ln K, so that alarm is right; no other may ring."""
    trained = loop.train(short("dinov3", 40), runtime(tmp_path), images)
    assert [sentence for sentence in rung(trained) if "ln K" not in sentence] == []


def test_a_constant_encoder(images, tmp_path, monkeypatch):
    def constant(model):
        torch.nn.init.zeros_(model.student.vit.norm.weight).requires_grad_(False)

    tampered(monkeypatch, constant)
    trained = loop.train(short("mae", STEPS), runtime(tmp_path), images)
    assert any("all images have the same features: collapse" in sentence for sentence in rung(trained))


def test_a_teacher_that_never_moves(images, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.load("pretexts", "ijepa").Model, "after_step", lambda self, progress: None)
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    assert rung(trained) == [
        f"{health.ALARM}teacher does not move: its weights stay the same; its momentum should be below 1"
    ]


def test_a_teacher_that_is_the_student(images, tmp_path, monkeypatch):
    after_every_step(monkeypatch, "ijepa", lambda model, _: follow(model.teacher, model.student, 0.0))
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    assert any("the teacher equals the student" in sentence for sentence in rung(trained))
    assert max(values(trained, "teacher distance")) == 0.0


def test_a_teacher_that_knows_positions_alone(images, tmp_path, monkeypatch):
    def blind(model, _):
        model.teacher.vit.patch_embed.proj.weight.mul_(1e-3)

    after_every_step(monkeypatch, "ijepa", blind)
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    assert any("the position alone predicts them" in sentence for sentence in rung(trained))
    assert values(trained, "between-image share of target variance")[0] > 0.5


def test_a_teacher_that_is_not_finite_ends_the_run_and_its_curve_says_why(images, tmp_path, monkeypatch):
    def poison(model, progress):
        if progress > 0.5:
            model.teacher.vit.patch_embed.proj.weight.fill_(float("nan"))

    after_every_step(monkeypatch, "ijepa", poison)
    place, run = runtime(tmp_path), short("ijepa", STEPS)
    pretrain.pretrain(run, place, images, "label")
    curves = results.read(place.results, "curves")
    (name,) = {name for name in curves.name if name.startswith(health.ALARM)}
    assert "the loss is not finite" in name
    assert "trivial loss" in name
    assert curves[curves.name == name].step.tolist() == [11]
    assert curves[curves.name == "loss"].step.tolist() == list(range(1, 12))


def test_a_uniform_teacher(images, tmp_path, monkeypatch):
    def uniform(model, _):
        model.teacher_dino_head.last_layer.weight.zero_()

    after_every_step(monkeypatch, "dinov3", uniform)
    trained = loop.train(short("dinov3", STEPS), runtime(tmp_path), images)
    assert any("teacher entropy is at ln K: uniform collapse" in sentence for sentence in rung(trained))


def test_a_dead_sub_module(images, tmp_path, monkeypatch):
    tampered(monkeypatch, lambda model: model.predictor.register_forward_hook(lambda _, __, out: 0 * out))
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    for part in ("student", "predictor"):
        assert any(f"no gradient reaches {part}:" in sentence for sentence in rung(trained)), part


def test_a_frozen_predictor(images, tmp_path, monkeypatch):
    tampered(monkeypatch, lambda model: model.predictor.requires_grad_(False))
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    assert [s for s in rung(trained) if "predictor does not move" in s]
    assert not [s for s in rung(trained) if "student" in s or "teacher" in s]


def test_a_predictor_without_a_learning_rate(images, tmp_path, monkeypatch):
    model = registry.load("pretexts", "ijepa").Model
    monkeypatch.setattr(model, "rate_group", lambda self, name: name.startswith("predictor."))
    monkeypatch.setattr(model, "lr_scale", lambda self, predictor, progress: 0.0 if predictor else 1.0)
    trained = loop.train(short("ijepa", STEPS), runtime(tmp_path), images)
    assert [s for s in rung(trained) if "predictor does not move" in s]
    assert min(values(trained, "gradient norm predictor")) > 0


def test_what_rests_on_purpose_is_not_held_against_it(images, tmp_path, monkeypatch):
    tampered(monkeypatch, lambda model: model.predictor.requires_grad_(False))
    monkeypatch.setattr(registry.load("pretexts", "ijepa").Model, "resting", lambda self, progress: ("predictor",))
    assert not [s for s in rung(loop.train(short("ijepa", STEPS), runtime(tmp_path), images)) if "predictor" in s]


def test_an_alarm_rings_once_when_it_is_first_so_and_stays_in_a_resumed_curve(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry.load("pretexts", "ijepa").Model, "after_step", lambda self, progress: None)
    take = loop.Batches.__call__

    def killed(self, step):
        if step == 12:
            raise KeyboardInterrupt
        return take(self, step)

    place = runtime(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.setattr(loop.Batches, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.train(short("ijepa", STEPS), place, images, "label")
    monkeypatch.setattr(loop.Batches, "__call__", take)
    trained = loop.train(short("ijepa", STEPS), place, images, "label")
    (row,) = [row for row in trained.curves if row["name"].startswith(health.ALARM)]
    assert row["step"] == 5 + health.HELD - 1  # a fifth of twenty steps is not judged
    assert row["value"] == 1.0
    assert capsys.readouterr().out.count("label: teacher does not move") == 1


def curve(name: str, series: list[float]) -> list[dict[str, object]]:
    return [{"progress": (i + 1) / len(series), "name": name, "value": value} for i, value in enumerate(series)]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dino below trivial", 0.001, "DINO loss is at ln K after warm-up: uniform collapse"),
        ("ibot below trivial", 0.001, "iBOT loss is at ln K after warm-up: uniform collapse"),
        ("loss below trivial", -0.3, "loss is at its trivial level: nothing learnt yet"),
        ("teacher entropy / ln K", 0.05, "one prototype per image"),
        ("between-image share of target variance", 0.01, "the position alone predicts them"),
    ],
)
def test_what_has_been_learnt_is_judged_in_the_second_half(name, value, said):
    (sentence,) = health.find_alarms(curve(name, [value] * 20))
    assert said in sentence
    assert health.find_alarms([row for row in curve(name, [value] * 20) if row["progress"] < 0.5]) == []
    assert health.find_alarms(curve(name, [value] * 18 + [0.5, value])) == []


def test_nothing_is_judged_in_the_warm_up():
    rows = curve("feature deviation", [0.0] * 20)
    assert len(health.find_alarms(rows)) == 1
    assert health.find_alarms(rows, warmup=0.9) == []
    assert health.find_alarms(rows[:6]) == []
    assert health.find_alarms([]) == []


# RankMe over a demo run on the ultrasound phantom: I-JEPA's partial collapse, and MAE's dip before it learns.
IJEPA = [8.7, 8.9, 8.9, 9.1, 8.6, 8.5, 8.3, 8.0, 7.9, 7.8, 7.5, 7.5, 7.1, 7.1, 7.2]
MAE = [14.2, 4.9, 3.2, 3.2, 3.5, 3.8, 5.5, 8.0, 6.4, 6.6, 7.0, 7.6, 7.3, 8.6, 8.2, 8.6, 8.6]


def test_a_steadily_falling_rank_rings_and_a_dip_does_not():
    def thick(series):
        return [value for value in series for _ in range(4)]

    (sentence,) = health.find_alarms(curve("rankme", thick(IJEPA)))
    assert "RankMe falls steadily" in sentence
    assert health.find_alarms(curve("rankme", thick(MAE))) == []
    assert not health.is_falling([9.0] * 40)
    assert not health.is_falling([9.0, 8.0, 5.0])
    assert not health.is_falling([9.0 - 0.02 * i for i in range(40)])  # straight, but only a little
    noisy = np.random.default_rng(0).normal(9, 2, 40)
    assert not health.is_falling(list(noisy - np.linspace(0, 1.8, 40)))


def test_rankme_counts_dimensions():
    x = torch.zeros(64, 16)
    x[torch.arange(64), torch.arange(64) % 4] = 1.0
    found = health.measure_features(x)
    assert found["rankme"] == pytest.approx(4.0, rel=1e-3)
    assert found["feature deviation"] == pytest.approx(4 * math.sqrt(16 * 48 / 64 / 63) / 16)
    assert found["pairwise cosine"] == pytest.approx(15 / 63)
    assert health.measure_features(torch.ones(1, 4))["pairwise cosine"] == 1.0


def test_distance_to_the_trivial_loss_is_a_share_of_it():
    parts = {"loss": 0.3, "trivial loss": 0.4, "dino": 5.0, "trivial dino": 5.0, "trivial ghost": 1.0, "trivial x": 0.0}
    assert health.below_trivial(parts) == pytest.approx({"loss below trivial": 0.25, "dino below trivial": 0.0})


SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 2


def labelled(protocol) -> tuple[Task, list[Sample], SimpleNamespace]:
    """A task of 120 groups of two images; the store's red channel names the group, so that pixels can be traced."""
    task = Task(
        name="toy",
        modality="histo",
        title="Toy",
        question="Odd?",
        classes=("even", "odd"),
        group_kind="pair",
        protocol=protocol,
        metric="auroc",
        version=1,
        access=Access(home="", licence="", citation=""),
        scan=lambda data: samples,
        read=lambda data, sample, pixels: None,
        policy="crop",
        images="toy/1",
        family="toy",
        independent=True,
    )
    published = isinstance(protocol, Fixed)
    samples = [
        Sample(f"{i:03d}", i // 2 % 2, f"g{i // 2:03d}", str(i), SPLITS[i // 2 % 10] if published else "")
        for i in range(240)
    ]
    pixels = np.zeros((240, 8, 8, 3), np.uint8) + np.arange(240, dtype=np.uint8)[::-1, None, None, None] // 2
    return task, samples, SimpleNamespace(ids=[s.id for s in reversed(samples)], pixels=pixels)


@pytest.mark.parametrize("protocol", [Fixed(published=True), Folds(k=5, repeats=1)], ids=["fixed", "folds"])
def test_the_online_probe_never_sees_a_test_group(protocol):
    task, samples, store = labelled(protocol)
    run = replace(recipe("mae"), budget=1e15)
    twisted = [sample._replace(label=1 - sample.label) for sample in samples]
    made = health.watch([(task, samples), (replace(task, name="twisted"), twisted)], store, run)
    (_, *known), (_, *opposite) = made.labels[task.name], made.labels["twisted"]
    assert [(1 - labels).tolist() for labels in known] == [labels.tolist() for labels in opposite]
    division = splits.assignments(task, samples)[0]
    for images, labels, part in (
        (made.train, known[0], division.train),
        (made.val, known[1], division.val),
    ):
        seen = {f"g{value:03d}" for value in images[:, 0, 0, 0]}
        assert seen == {samples[i].group for i in part}
        assert not seen & {samples[i].group for i in division.test}
        assert [int(group) % 2 for group in images[:, 0, 0, 0]] == labels.tolist()


@pytest.mark.parametrize(("budget", "images"), [(1e9, 2), (3e10, 22), (1e15, 72)])
def test_the_online_probe_costs_at_most_a_twentieth_of_the_flops(budget, images):
    task, samples, store = labelled(Fixed(published=True))
    run = replace(recipe("mae"), budget=budget)
    made = health.watch([(task, samples)], store, run)
    spent = health.LOOKS * (len(made.train) + len(made.val)) * flops.encode(run.encoder)
    assert len(made.train) <= health.LOOK_IMAGES
    assert spent <= 0.05 * budget or len(made.train) == len(task.classes)
    assert len(made.train) == pytest.approx(images, abs=2) or budget == 1e15


def shades(shuffled: bool = False) -> health.Watch:
    (train, one), (val, other) = part_of_shades(64, shuffled), part_of_shades(48)
    return health.Watch(train, val, {"shades": (2, one, other)})


def part_of_shades(count: int, shuffled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    noise = np.random.default_rng(count).integers(0, 60, (count, 32, 32, 3))
    shown = np.random.default_rng(0).permutation(labels) if shuffled else labels
    return (noise + 150 * labels[:, None, None, None]).astype(np.uint8), shown


def test_the_online_probe_reads_what_features_tell():
    encoder = Encoder(recipe("mae").encoder, seed=0)
    encoder.vit.blocks[0].eval()
    told = health.look(encoder, shades())
    assert told == {"online kNN shades": 1.0}
    lost = health.look(encoder, shades(shuffled=True))
    assert lost["online kNN shades"] == pytest.approx(0.5, abs=0.3)
    assert encoder.training
    assert not encoder.vit.blocks[0].training
    assert encoder.vit.blocks[1].training


@pytest.mark.parametrize("pretext", ["mae", "ijepa", "dinov3"])
def test_the_online_probe_changes_no_number(pretext, images, tmp_path):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    watch = shades()
    plain = loop.train(short(pretext, 10), runtime(tmp_path / "plain"), images)
    health.look(plain.model.encoder, watch)
    before = states()
    health.look(plain.model.encoder, watch)
    assert states() == before
    watched = loop.train(short(pretext, 10), runtime(tmp_path / "watched"), images, watch=watch)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    assert values(plain, "loss") == values(watched, "loss")
    looks = [row["step"] for row in watched.curves if row["name"] == "online kNN shades"]
    assert looks == [0, 2, 3, 5, 6, 8, 9, 10]
    assert values(plain, "online kNN shades") == []
    assert key(short(pretext, 10)) == key(short(pretext, 10))
