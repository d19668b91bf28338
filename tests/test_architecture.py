"""The test of the house: sizes of rooms and files, the arrows between them, who may load torch, how long the words are.

Exceptions are lists that only shrink: one that is no longer needed fails as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.pretexts._base import Pretext
from benchmark.recipe import Optim

ROOT = Path(__file__).parent.parent
PRODUCT = ("tasks", "benchmark", "leaderboards")
DATASETS = {"tasks/histo", "tasks/ultrasound"}  # a file a dataset, as many as there are
MODULES, LINES = 14, 400  # a folder, a file
README_WORDS, DOCS_WORDS, SITE_FILES, SITE_BYTES = 900, 9_000, 600, 10 * 2**20
TORCH = {"torch", "torchvision", "timm", "accelerate", "kornia"}
MAY_IMPORT = {  # what a package may import of ours
    "tasks": {"tasks"},
    "benchmark": {"tasks", "benchmark"},
    "leaderboards": {
        "tasks",
        "leaderboards",
        *(f"benchmark.{name}" for name in ("storage", "metrics", "recipe", "tracks")),
    },
}

LONG: set[str] = set()
CROWDED: set[str] = set()
AGAINST_THE_ARROWS: set[str] = set()
IN_CIRCLES: set[str] = set()
FOLDERS_IN_CIRCLES: set[str] = set()
WORDY: set[str] = set()


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere in it: `from a import b` is a.b where that is a module, else a."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno}: imports name the whole path"
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules() else node.module for name in dotted}
    return frozenset(names)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files(*PRODUCT)}


def folder_of(module: str) -> str:
    """Its room: a folder below a package is one room, a module directly in a package one of its own."""
    return ".".join(module.split(".")[:2])


def circular(edges: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes that reach themselves."""
    after: dict[str, set[str]] = {}
    for start, end in edges:
        after.setdefault(start, set()).add(end)

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            new = after.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    return {node for node in after if node in reached(node)}


def edges() -> set[tuple[str, str]]:
    """Which module imports which of ours, inside functions too."""
    return {
        (name, other)
        for name, path in modules().items()
        for other in imported(path)
        if other in modules()
        if other != name
    }


def imports_against_the_arrows(name: str, path: Path) -> set[str]:
    package = name.split(".")[0]
    allowed = MAY_IMPORT[package]
    ours = {other for other in imported(path) if other.split(".")[0] in PRODUCT}
    wrong = {other for other in ours if not any(f"{other}.".startswith(f"{one}.") for one in allowed)}
    return wrong | ({other.split(".")[0] for other in imported(path)} & TORCH if package != "benchmark" else set())


def test_no_file_is_long():
    lengths = {
        place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(*PRODUCT, "tests")
    }
    assert {path for path, lines in lengths.items() if lines > LINES} == LONG


def test_no_room_is_crowded():
    held = {}
    for path in python_files(*PRODUCT):
        if path.name != "__init__.py":
            held.setdefault(place(path.parent), []).append(path.name)
    assert {folder for folder, names in held.items() if len(names) > MODULES and folder not in DATASETS} == CROWDED


def test_imports_point_one_way():
    found = {
        f"{name} -> {other}" for name, path in modules().items() for other in imports_against_the_arrows(name, path)
    }
    assert found == AGAINST_THE_ARROWS


def test_no_modules_go_in_circles():
    assert circular(edges()) == IN_CIRCLES


def test_no_folders_go_in_circles():
    rooms = {(folder_of(start), folder_of(end)) for start, end in edges()}
    assert circular((start, end) for start, end in rooms if start != end) == FOLDERS_IN_CIRCLES


def test_circles_are_found():
    assert circular([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]) == {"b", "c"}


def test_words_and_pages_stay_few():
    site = [path for path in (ROOT / "leaderboards" / "site").rglob("*") if path.is_file()]
    found = {
        "README.md": (words(ROOT / "README.md"), README_WORDS),
        "docs": (sum(map(words, (ROOT / "docs").rglob("*.md"))), DOCS_WORDS),
        "site files": (len(site), SITE_FILES),
        "site bytes": (sum(path.stat().st_size for path in site), SITE_BYTES),
    }
    assert {name for name, (count, most) in found.items() if count > most} == WORDY, found


def words(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").split())


def loads_torch(code: str) -> bool:
    """Whether torch is loaded once the code has run, or has left."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.exit(3 * ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, encoding="utf-8")
    assert done.returncode in (0, 3), done.stderr
    return done.returncode == 3


@pytest.mark.parametrize("package", ["tasks", "leaderboards"])
def test_tasks_and_leaderboards_load_no_torch(package):
    names = [name for name in modules() if name.split(".")[0] == package and not name.endswith("__main__")]
    assert not loads_torch(f"import {', '.join(names)}")


@pytest.mark.parametrize("command", ["benchmark --help", "benchmark data status", "leaderboards --help"])
def test_the_command_line_answers_without_torch(command):
    package, *arguments = command.split()
    start = f"import runpy; sys.argv = {[package, *arguments]}; runpy.run_module('{package}', run_name='__main__')"
    assert not loads_torch(start)


@pytest.mark.parametrize("name", registry.names("pretexts"))
def test_a_pretext_declares_itself(name):
    pretext = registry.load("pretexts", name)
    assert {"VERSION", "CLS", "NATIVE", "Settings", "settings", "flops"} <= set(vars(pretext))
    assert issubclass(pretext.Model, Pretext)
    assert issubclass(pretext.Settings, Optim)


@pytest.mark.parametrize("name", registry.names("probes"))
def test_a_probe_declares_itself(name):
    probe = registry.load("probes", name)
    assert {"VERSION", "KINDS", "Settings"} <= set(vars(probe))
    assert callable(probe.fit)


def unencoded(tree: ast.Module) -> list[int]:
    """Lines that read or write text without saying in which encoding."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [value.value for value in node.args if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        if name in ("read_text", "write_text"):
            lines += [node.lineno] * (len(node.args) <= (name == "write_text"))
        elif name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes):
            lines.append(node.lineno)
        elif name in ("run", "Popen", "check_output"):
            lines += [node.lineno for word in node.keywords if word.arg in ("text", "universal_newlines")]
    return lines


def test_text_is_utf8_whatever_the_locale():
    found = {path: unencoded(parsed(path)) for path in python_files(*PRODUCT)}
    assert [f"{place(path)}:{line}" for path, lines in found.items() for line in lines] == []
    assert unencoded(ast.parse("p.read_text()\nopen(p, 'w')\nrun(c, text=True)\np.write_text(t)")) == [1, 2, 3, 4]


def test_every_entry_point_starts_in_utf8():
    for path in python_files(*PRODUCT):
        if path.name != "install.py":  # which runs before anything is installed, and under old Pythons
            blocks = [
                node for node in parsed(path).body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            ]
            assert all(ast.unparse(block.body[0]) == "host.use_utf8()" for block in blocks), place(path)
