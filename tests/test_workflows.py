"""CI runs what a user runs: workflows and .ci/run call the same make targets, which exist, with least permissions."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SYSTEM = "tests/system"  # which `make test` leaves to `make test-system`
MAY_WRITE = {"publish": {"pages": "write", "id-token": "write"}}
READS = {"contents": "read"}


def workflow(name: str) -> dict:
    found = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    return {"on": found.pop(True), **found}  # YAML 1.1 reads the key `on` as true


def commands(job: dict) -> list[str]:
    """The `run:` lines of a job, one for each row of its matrix."""
    matrix = job.get("strategy", {}).get("matrix", {})
    rows = matrix.get("include") or [{name: value} for name, values in matrix.items() for value in values] or [{}]
    lines = [step["run"] for step in job["steps"] if "run" in step]
    return [
        re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found, row=row: row[found[1]], line)
        for row in rows
        for line in lines
    ]


def targets(lines: list[str]) -> list[str]:
    called = [re.fullmatch(r"make (?:--[\w=-]+ )*([\w-]+(?: [\w-]+)*)", line) for line in lines]
    assert all(called), lines
    return [target for found in called for target in found[1].split()]


@pytest.mark.parametrize("name", ["ci", "pages", "submission"])
def test_a_workflow_calls_targets_that_exist_and_may_do_little(name):
    found = workflow(name)
    assert set(found) == {"on", "name", "permissions", "concurrency", "jobs"}
    assert found["permissions"] == READS
    for label, job in found["jobs"].items():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        assert job.get("permissions", READS) == MAY_WRITE.get(label, READS)
        assert set(targets(commands(job))) <= TARGETS
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used), used
    assert ("pull_request" in found["on"]) == (name != "pages")


def test_the_page_is_published_from_main_alone():
    found = workflow("pages")
    assert found["on"]["push"] == {"branches": ["main"]}
    assert found["jobs"]["build"]["if"] == "github.ref == 'refs/heads/main'"
    assert found["jobs"]["publish"]["needs"] == "build"
    assert targets(commands(found["jobs"]["build"])) == ["site"]


def test_ci_runs_what_the_script_for_any_machine_runs():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    script = targets([line for line in lines if line.startswith("make")])
    hosted = [target for job in workflow("ci")["jobs"].values() for target in targets(commands(job))]
    assert hosted == script
    assert set(script) <= TARGETS


def test_every_folder_of_tests_belongs_to_a_target():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (paths,) = re.findall(r"^testpaths = (\[.*\])", pyproject, re.MULTILINE)
    covered = {*yaml.safe_load(paths), SYSTEM}
    files = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    held = {path for path in files for one in covered if path.match(one) or Path(one) in path.parents}
    assert files - held == set()
