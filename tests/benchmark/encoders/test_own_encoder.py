"""MODULE:FUNCTION: the forward is read, and what cannot be read or fails is said as theirs."""

import pytest
import torch

from benchmark.encoders import external
from tasks.base import DataError

SOURCE = """
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self, answer=lambda tokens: tokens.mean(1)):
        super().__init__()
        torch.manual_seed(0)
        self.project, self.answer = nn.Conv2d(3, 8, 16, 16), answer

    def forward(self, images):
        return self.answer(self.project(images).flatten(2).transpose(1, 2))


class Dino(Base):
    def forward_features(self, images):
        return {"x_norm_patchtokens": torch.zeros(len(images), 4, 8)}


class Other(Base):
    num_prefix_tokens, cls_token = 1, 1

    def forward_features(self, images):
        return torch.zeros(len(images), 5, 8)


def failing():
    return Base(lambda tokens: tokens / {}["nothing"])


def wrong():
    raise KeyError("inside")


def leaves():
    raise SystemExit(0)


def number():
    return 3


def asks(more):
    return Base()


def drawn(untrained=False):
    model = Base()
    torch.manual_seed(1 + untrained)
    nn.init.normal_(model.project.weight)
    return model


def same(*, untrained=False):
    return Base()


CONSTANT = 3
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch, request):
    """A module of a name that no other test has imported."""
    name = f"theirs_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def answering(theirs: str, tmp_path, answer: str) -> str:
    with (tmp_path / f"{theirs}.py").open("a") as file:
        file.write(f"\ndef made():\n    return Base(lambda tokens: {answer})\n")
    return f"{theirs}:made"


@pytest.mark.parametrize("name", ["Base", "Dino", "Other"])
def test_forward_is_read_whatever_else_the_module_offers(theirs, name):
    module = __import__(theirs)
    opened = external.open_encoder(f"{theirs}:{name}", 32)
    images = torch.rand(3, 3, 32, 32)
    tokens = opened.model(images)
    assert tokens.cls is None
    assert torch.equal(tokens.patches[:, 0], getattr(module, name)()(images))
    assert opened.loaded == "forward read: 8 numbers an image"
    assert opened.floor is None


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("tokens", 4),
        ("(tokens,)", 4),
        ("[tokens.mean(1)]", 1),
        ("{'features': tokens.mean(1), 'masks': None}", 1),
        ("tokens.half()", 4),
        ("tokens.mean(1).bfloat16()", 1),
        ("tokens.mean(1).double()", 1),
    ],
)
def test_one_tensor_is_read_in_whatever_it_comes(theirs, tmp_path, answer, count):
    opened = external.open_encoder(answering(theirs, tmp_path, answer), 32)
    images = torch.rand(2, 3, 32, 32)
    found = opened.model(images).patches
    assert (found.shape, found.dtype) == ((2, count, 8), torch.float32)
    mean = __import__(theirs).Base()(images)
    assert torch.allclose(found.mean(1), mean, atol=1e-2)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("(tokens, tokens.mean(1))", "a tuple of a tensor 2 x 4 x 8 of float32, a tensor 2 x 8 of float32"),
        ("{'x_norm_clstoken': tokens[:, 0], 'x_norm_patchtokens': tokens}", "a dict of x_norm_clstoken (a ten"),
        ("{'a': {'b': tokens}}", "a dict of a (a dict of b"),
        ("tokens.mean((1, 2))", "a tensor 2 of float32"),
        ("tokens[:, None]", "a tensor 2 x 1 x 4 x 8 of float32"),
        ("tokens.mean(1).T", "a tensor 8 x 2 of float32"),
        ("tokens.mean(1)[:1]", "a tensor 1 x 8 of float32"),
        ("tokens.mean(1)[:, :0]", "a tensor 2 x 0 of float32"),
        ("tokens.mean(1).long()", "a tensor 2 x 8 of int64"),
        ("tokens.mean(1) > 0", "a tensor 2 x 8 of bool"),
        ("tokens.mean(1).numpy()", "a ndarray"),
        ("None", "a NoneType"),
    ],
)
def test_an_answer_of_another_kind_is_refused_with_what_was_found(theirs, tmp_path, answer, found):
    with pytest.raises(DataError) as caught:
        external.open_encoder(answering(theirs, tmp_path, answer), 32)
    assert f"{theirs}:made answers images 2 x 3 x 32 x 32 with {found}" in str(caught.value)


def test_an_answer_that_changes_its_width_is_refused(theirs, tmp_path):
    opened = external.open_encoder(answering(theirs, tmp_path, "tokens.mean(1)[:, : len(tokens)]"), 32)
    with pytest.raises(DataError, match="gives 3 images 3 numbers each, and gave others 2"):
        opened.model(torch.rand(3, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "words", "frame"),
    [
        ("failing", "given images 2 x 3 x 32 x 32, raised KeyError: 'nothing'", "in <lambda>"),
        ("wrong", "wrong(), called without arguments, raised KeyError: 'inside'", "in wrong"),
        ("leaves", "leaves(), called without arguments, raised SystemExit: 0", "in leaves"),
        ("asks", "missing 1 required positional argument: 'more'", ""),
    ],
)
def test_what_their_code_raises_is_shown_as_theirs(theirs, name, words, frame):
    with pytest.raises(DataError) as caught:
        external.open_encoder(f"{theirs}:{name}", 32)
    assert words in str(caught.value)
    assert frame in str(caught.value)
    assert "own_encoder.py" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def made(:\n", "SyntaxError: invalid syntax"),
        ("import no_such_dependency\n", "raised ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("value = 1 / 0\n", "raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n", "raised SystemExit: 0"),
    ],
)
def test_a_module_that_cannot_be_imported_is_shown_with_its_line(theirs, tmp_path, content, words):
    (tmp_path / f"{theirs}.py").write_text(content)
    with pytest.raises(DataError) as caught:
        external.open_encoder(f"{theirs}:made")
    assert f"importing {theirs} raised" in str(caught.value)
    assert words in str(caught.value)
    assert f"{theirs}.py" in str(caught.value)


def test_names_that_are_not_there_are_said(theirs):
    with pytest.raises(ValueError, match=f"{theirs} has no function mad; it has Base, Dino, Other"):
        external.open_encoder(f"{theirs}:mad")
    with pytest.raises(ValueError, match=f"{theirs} has no function CONSTANT"):
        external.open_encoder(f"{theirs}:CONSTANT")
    with pytest.raises(ValueError, match=r"number\(\) returned a int, no module or function of images"):
        external.open_encoder(f"{theirs}:number")
    with pytest.raises(ValueError, match=f"No module named '{theirs}_too'"):
        external.open_encoder(f"{theirs}_too:made")


def test_another_forward_with_the_same_weights_is_another_encoder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for name, answer in {"one_forward": "tokens", "other_forward": "tokens * 2"}.items():
        (tmp_path / f"{name}.py").write_text(SOURCE + f"\ndef made():\n    return Base(lambda tokens: {answer})\n")
        digests.append(external.open_encoder(f"{name}:made", 32).digest)
    assert digests[0] != digests[1]
    assert digests[0] == external.open_encoder("one_forward:made", 32).digest


def test_a_function_that_takes_untrained_gives_the_floor_too(theirs):
    opened = external.open_encoder(f"{theirs}:drawn", 64)
    images = external.ramp(2, 64)
    assert opened.floor is not None
    assert opened.model.spec == opened.floor.spec
    assert not torch.equal(opened.model(images).patches, opened.floor(images).patches)
    assert external.open_encoder(f"{theirs}:Base", 64).floor is None
    with pytest.raises(DataError, match=rf"{theirs}:same: its weights are those that it has with untrained=True"):
        external.open_encoder(f"{theirs}:same", 64)


def test_the_example_is_an_imagenet_network_and_its_untrained_twin():
    before = torch.random.get_rng_state()
    opened = external.open_encoder("examples.efficientnet_lite0:imagenet", 64)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (opened.model.spec.width, opened.model.count) == (1280, 4)
    trained, untrained = (one.model.network._conv_stem.weight for one in (opened.model, opened.floor))
    assert not torch.allclose(trained, untrained, atol=0.1)
    again = external.open_encoder("examples.efficientnet_lite0:imagenet", 64)
    assert external.fingerprint(again.floor) == external.fingerprint(opened.floor)
    images = external.ramp(2, 64)
    logits = opened.model.model.network((255 * images - 127) / 128)
    head = opened.model.model.network._fc
    assert torch.allclose(head(opened.model(images).patches.mean(dim=1)), logits, atol=1e-4)
