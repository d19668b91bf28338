"""Any locale, any path, any project around us: what is read, written, shown and recorded stays the same."""

import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmark.cli.checks import regression
from benchmark.device import machine
from benchmark.lab.gpu import checks
from leaderboards import __main__ as leaderboards
from leaderboards.audit.history import changed_files
from leaderboards.pages import terminal
from leaderboards.publish import site
from tasks import host
from tests.helpers.boards import store

ROOT = Path(__file__).parents[2]
CHARSETS = {"latin-1": ("en_US", "ISO-8859-1"), "gbk": ("zh_CN", "GBK"), "euc-jp": ("ja_JP", "EUC-JP")}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def environment(**changes: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | changes


@pytest.fixture(scope="module")
def locales(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef"):
        pytest.skip("localedef is not here")
    for encoding, (name, charset) in CHARSETS.items():
        made = subprocess.run(["localedef", "-i", name, "-f", charset, folder / encoding], capture_output=True)
        if not (folder / encoding).exists():
            pytest.skip(f"localedef has no {name}: {made.stderr!r}")
    return folder


@pytest.fixture(params=[*CHARSETS, "ascii"])
def foreign(request) -> dict[str, str]:
    """The environment of a locale that is not UTF-8."""
    if request.param == "ascii":
        return environment(**ASCII)
    return environment(LOCPATH=str(request.getfixturevalue("locales")), LC_ALL=request.param)


def run(*arguments: str | Path, cwd: Path, env: dict[str, str]) -> bytes:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("any place") / "störe #1? 100 % [a]*", pretexts=("mae",), groups=30)


@pytest.fixture(scope="module")
def usual(small) -> dict[str, bytes]:
    """The pages of that store, written under UTF-8."""
    run("-m", "leaderboards", "build", "--results", small, "--out", "pages é", cwd=small.parent, env=environment())
    return tree(small.parent / "pages é")


def test_pages_are_the_same_bytes_in_every_locale(tmp_path, small, usual, foreign):
    run("-m", "leaderboards", "build", "--results", small, "--out", "Seiten é", cwd=tmp_path, env=foreign)
    assert tree(tmp_path / "Seiten é") == usual
    assert "index.html" in usual


def test_what_a_terminal_cannot_show_is_replaced_by_what_means_the_same(small, locales):
    command = ["-m", "leaderboards", "show", "--results", small]
    said = run(*command, cwd=ROOT, env=environment()).decode()
    plain = run(*command, cwd=ROOT, env=environment(LOCPATH=str(locales), LC_ALL="latin-1")).decode("latin-1")
    assert set("▲−") < set(said)
    for sign, simpler in host.PLAIN.items():
        said = said.replace(sign, sign if sign == "×" else simpler)  # which Latin-1 has
    assert plain == said
    assert "?" not in said


@pytest.mark.parametrize("encoding", ["latin-1", "gbk", "ascii", "cp1252"])
def test_a_terminal_of_another_encoding_ends_no_command(small, encoding):
    env = environment(PYTHONIOENCODING=encoding)
    run("-m", "leaderboards", "show", "--results", small, cwd=ROOT, env=env)
    run("-m", "benchmark", "tracks", cwd=ROOT, env=env)


def pictures(folder: Path) -> Path:
    for label in ("gutartig", "bösartig 图"):
        for patient in range(12):
            place = folder / label / f"Patientin {label[0]} é{patient}"
            place.mkdir(parents=True)
            for number in range(2):
                colour = (20 * patient, 90 * number, 200 if label[0] == "b" else 10)
                Image.new("RGB", (16, 16), colour).save(place / f"Größe {number}.png")
    return folder


def test_names_of_files_are_read_alike_in_every_locale(tmp_path, foreign):
    pictures(tmp_path / "Bilder ü")
    about = {
        "--modality": "histo",
        "--policy": "pad",
        "--metric": "auroc",
        "--title": "Größe",
        "--question": "Wie groß?",
    }
    about |= {"--group-kind": "patient", "--licence": "keine – für uns"}
    options = [word for pair in about.items() for word in pair]
    listed = (
        "import json, tasks\nfrom pathlib import Path\nfrom tasks import host\n"
        "from tasks.duplicates import scan_grouped\n"
        "if __name__ == '__main__':\n    host.use_utf8()\n    task = tasks.get('histo', 'mine')\n"
        "    print(json.dumps([list(sample) for sample in scan_grouped(task, Path(), Path('cache'))], default=str))\n"
    )
    (tmp_path / "listed.py").write_text(listed, encoding="utf-8")
    seen = []
    for name, env in (("usual", environment()), ("foreign", foreign)):
        env = env | {"PRETEXT_BENCH_TASKS": f"added {name}"}
        run("-m", "benchmark", "data", "add", "mine", "--folder", "Bilder ü", *options, cwd=tmp_path, env=env)
        (described,) = (tmp_path / f"added {name}").rglob("*.json")
        seen.append((described.read_bytes(), run("listed.py", cwd=tmp_path, env=env)))
    assert seen[0] == seen[1]
    assert "bösartig 图" in json.loads(seen[0][0])["classes"]


def test_pages_are_written_before_anything_is_printed(tmp_path, small, monkeypatch):
    boards = tmp_path / "boards"
    there = site.load_boards(small)[0]

    def refuse(*_, **__):
        raise UnicodeEncodeError("latin-1", "▲", 0, 1, "no such sign")

    monkeypatch.setattr(leaderboards.typer, "echo", refuse)
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    with pytest.raises(UnicodeEncodeError):
        leaderboards.report(small, boards, [f"{there.modality}/{there.track}"])
    assert (boards / "index.html").exists()


def test_a_closed_output_is_no_reason_to_fail():
    code = "import sys; sys.stdout = None; from tasks import host; host.use_utf8()"
    run("-c", code, cwd=ROOT, env=environment())


def test_children_of_a_foreign_locale_are_utf8(tmp_path, foreign):
    code = (
        "import subprocess, sys\nfrom tasks import host\n"
        "if __name__ == '__main__':\n    host.use_utf8()\n"
        "    child = 'import sys, locale; print(sys.flags.utf8_mode, open(sys.argv[1]).read() == sys.argv[2])'\n"
        "    subprocess.run([sys.executable, '-c', child, 'ä', '图'], check=True)\n"
    )
    (tmp_path / "parent.py").write_text(code, encoding="utf-8")
    (tmp_path / "ä").write_text("图", encoding="utf-8")
    assert run("parent.py", cwd=tmp_path, env=foreign).split() == [b"1", b"True"]


def test_what_is_missing_is_said_once(small):
    absent = {"ultrasound": {f"task_{number}": "no data: `make data` says how to get them" for number in range(12)}}
    found = site.load_boards(small, absent)
    shown = terminal.format_boards([found[0], found[0]])
    assert shown.count("no data: `make data`") == 1
    assert all(f"task_{number}" in shown for number in range(12))
    assert max(map(len, shown.splitlines())) <= 100


def test_what_a_run_has_said_to_be_absent_is_on_its_pages_and_not_said_again(tmp_path, small, monkeypatch, capsys):
    there = site.load_boards(small)[0]
    absent = {there.modality: {"task_lost": "no data: `make data` says how to get them"}}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(absent)))
    leaderboards.report(small, tmp_path, [f"{there.modality}/{there.track}"])
    shown = capsys.readouterr().out
    assert there.title in shown
    assert "task_lost" not in shown
    assert any("task_lost" in page.read_text(encoding="utf-8") for page in tmp_path.glob("*.html"))


def test_the_home_folder_may_be_written_as_a_tilde(small, monkeypatch):
    monkeypatch.setenv("HOME", str(small.parent))
    assert host.path("~/my tiles/") == small.parent / "my tiles"
    assert host.path("a/~") == Path("a/~")
    done = CliRunner().invoke(leaderboards.app, ["show", f"--results=~/{small.name}"])
    assert "Ultrasound" in done.output


def test_a_results_folder_may_be_a_link(tmp_path, small):
    (tmp_path / "link").symlink_to(small)
    there, linked = (
        CliRunner().invoke(leaderboards.app, ["show", "--results", str(root)]) for root in (small, tmp_path / "link")
    )
    assert there.output == linked.output
    assert "Ultrasound" in there.output


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def repository(folder: Path, *files: str) -> str:
    """A git repository with these files; its commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "start")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def commit(monkeypatch):
    def at(root: Path) -> tuple[str, bool]:
        monkeypatch.setattr(machine, "ROOT", root)
        machine.commit.cache_clear()
        return machine.commit()

    yield at
    machine.commit.cache_clear()


def test_the_commit_of_a_checkout_is_recorded_with_its_changes(tmp_path, commit):
    root = tmp_path / "it's ours ü"
    head = repository(root, *machine.OURS)
    assert commit(root) == (head, False)
    (root / "more").touch()
    assert commit(root) == (head, True)


def test_a_linked_working_tree_is_a_checkout(tmp_path, commit):
    head = repository(tmp_path / "main", *machine.OURS)
    git(tmp_path / "main", "worktree", "add", "-q", "--detach", str(tmp_path / "second"))
    assert (tmp_path / "second" / ".git").is_file()
    assert commit(tmp_path / "second") == (head, False)


def test_a_git_that_is_told_of_another_project_still_answers_of_ours(tmp_path, commit, monkeypatch):
    head = repository(tmp_path / "ours", *machine.OURS)
    other = repository(tmp_path / "other", "else")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert commit(tmp_path / "ours") == (head, False) != (other, False)


@pytest.mark.parametrize("tracked", [False, True], ids=["ignored", "committed"])
@pytest.mark.parametrize("place", [".venv/lib/site-packages", "vendor", "."])
def test_the_commit_of_another_project_is_never_recorded(tmp_path, commit, place, tracked):
    installed = [f"{place}/benchmark/device/machine.py"]
    repository(tmp_path, "README.md", *(installed if tracked else ()))
    (tmp_path / installed[0]).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / installed[0]).touch()
    assert commit(tmp_path / place) == ("unknown", True)


def test_a_copy_inside_another_project_is_not_that_project(tmp_path, commit):
    repository(tmp_path, *(f"copied/{name}" for name in machine.OURS))
    assert commit(tmp_path / "copied") == ("unknown", True)


def test_without_git_or_its_trust_or_a_commit_there_is_none(tmp_path, commit, monkeypatch):
    repository(tmp_path / "ours", *machine.OURS)
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert commit(tmp_path / "new") == ("unknown", True)
    if os.getuid() == 0:
        monkeypatch.setenv("HOME", str(tmp_path))
        os.chown(tmp_path / "ours", 12345, 12345)
        assert commit(tmp_path / "ours") == ("unknown", True)
        os.chown(tmp_path / "ours", 0, 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(tmp_path / "ours") == ("unknown", True)
    assert changed_files(tmp_path / "ours") == []


def test_what_needs_a_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="regression needs a checkout of the repository"):
        regression(cache=tmp_path, record=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy>=2", "no-such-thing>=1", "x; extra == 'dev'"])
    assert checks.find_missing() == ["no-such-thing"]


def test_the_version_of_the_package_is_stored_with_every_run():
    assert json.loads(machine.versions())["pretext-bench"] == importlib.metadata.version("pretext-bench")
