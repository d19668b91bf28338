"""The arrows of the corridor: tasks <- benchmark <- leaderboards, and who may import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from benchmark import registry
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Optim

ROOT = Path(__file__).parent.parent
TORCH = {"torch", "torchvision", "timm", "accelerate", "kornia"}
TORCH_FREE = (
    "recipe",
    "storage.results",
    "metrics",
    "storage.scores",
    "registry",
    "tracks",
    "parts.flops",
    "parts.mask_sizes",
    "parts.schedules",
    "plan",
    "grid",
    "execution.pack",
    "corpus",
)


def imported(path: Path) -> set[str]:
    """Top-level packages and our dotted modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", files("tasks"), ids=str)
def test_tasks_import_neither_torch_nor_benchmark(path):
    assert not packages(path) & (TORCH | {"benchmark", "leaderboards"})


@pytest.mark.parametrize("path", files("benchmark"), ids=str)
def test_benchmark_imports_leaderboards_only_at_the_command_line(path):
    assert "leaderboards" not in packages(path) or path.name == "__main__.py"


@pytest.mark.parametrize("path", files("leaderboards"), ids=str)
def test_leaderboards_read_results_and_never_torch(path):
    assert not packages(path) & TORCH
    ours = {name for name in imported(path) if name.startswith("benchmark.")}
    assert {name.split(".")[1] for name in ours} <= {"storage", "metrics", "recipe", "tracks"}


@pytest.mark.parametrize("name", TORCH_FREE)
def test_light_modules_do_not_load_torch(name):
    code = f"import sys, benchmark.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["data", "status"]], ids=["help", "data"])
def test_the_command_line_answers_without_torch(arguments):
    code = (
        "import sys\nfrom benchmark.__main__ import main\n"
        f"sys.argv = ['benchmark', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_packages_are_ours():
    assert Path(tasks.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("name", registry.names("pretexts"))
def test_a_pretext_declares_itself(name):
    pretext = registry.load("pretexts", name)
    assert {"VERSION", "CLS", "NATIVE", "QUERY", "Settings", "settings", "flops"} <= set(vars(pretext))
    assert issubclass(pretext.Model, Pretext)
    assert issubclass(pretext.Settings, Optim)


@pytest.mark.parametrize("name", registry.names("probes"))
def test_a_probe_declares_itself(name):
    probe = registry.load("probes", name)
    assert {"VERSION", "KINDS", "NEEDS", "Settings"} <= set(vars(probe))
    assert callable(probe.fit)


OURS = [path for package in ("tasks", "benchmark", "leaderboards") for path in files(package)]


def unencoded(path: Path) -> list[int]:
    """Lines that read or write text without saying in which encoding."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [value.value for value in node.args if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        if name in ("read_text", "write_text"):
            found += [node.lineno] * (len(node.args) <= (name == "write_text"))
        elif name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes):
            found.append(node.lineno)
        found += [node.lineno for word in node.keywords if word.arg in ("text", "universal_newlines")]
    return found


@pytest.mark.parametrize("path", OURS, ids=str)
def test_text_is_utf8_whatever_the_locale(path):
    assert unencoded(path) == []


@pytest.mark.parametrize("path", OURS, ids=str)
def test_every_entry_point_starts_in_utf8(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    blocks = [node.body for node in body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)]
    if path.name != "install.py":  # which runs before anything is installed, and under old Pythons
        assert all(ast.unparse(block[0]) == "host.use_utf8()" for block in blocks)
