"""Two machines, as two network namespaces with addresses of their own: one run trained by both equals one process."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from benchmark.execution import torchrun
from tests.benchmark.training.test_training import RESUMED, curve, joined, runtime, same, watched

ROOT = Path(__file__).parents[2]
HEAD = "10.87.0.1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": ""}, "give address:port of node 0"),
        ({"head": "10.0.0.1"}, "give address:port of node 0"),
        ({"node": 2}, "the 2 nodes are numbered from 0"),
        ({"processes": 3}, "3 processes cannot be shared evenly by 2 nodes"),
    ],
)
def test_nodes_that_cannot_meet_are_told_why(tmp_path, changes, said):
    asked = {"processes": 4, "nodes": 2, "node": 1, "head": f"{HEAD}:29500"} | changes
    with pytest.raises(ValueError, match=said):
        torchrun.command(runtime(tmp_path, **asked), "run")


def test_the_command_of_a_node_is_torchruns(tmp_path):
    place = runtime(tmp_path, processes=4, nodes=2, node=1, head=f"{HEAD}:29500")
    said = " ".join(torchrun.command(place, "run"))
    assert said.endswith(
        "-m torch.distributed.run --nnodes 2 --node-rank 1 --nproc-per-node 2 --rdzv-id run "
        f"--master-addr {HEAD} --master-port 29500"
    )


@contextmanager
def two_namespaces() -> Iterator[list[list[str]]]:
    """What to put before a command to run it on either of two machines, joined by one wire. Skips where this machine
    does not allow it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two network namespaces need root and iproute2")
    mark = uuid.uuid4().hex[:6]
    names, ends = [f"node0-{mark}", f"node1-{mark}"], [f"v0{mark}", f"v1{mark}"]
    made = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "netns", "add", names[1]], check=True)
        wire = ["ip", "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1]]
        wired = subprocess.run([*wire, "netns", names[1]], capture_output=True, text=True, check=False)
        if wired.returncode:
            pytest.skip(f"no veth pairs here: {wired.stderr.strip()}")
        for number, (name, end) in enumerate(zip(names, ends, strict=True)):
            for command in (
                ["addr", "add", f"10.87.0.{number + 1}/24", "dev", end],
                ["link", "set", end, "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run(["ip", "-n", name, *command], check=True)
        yield [
            ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={end}", f"TP_SOCKET_IFNAME={end}"]
            for name, end in zip(names, ends, strict=True)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def together(commands: list[list[str]], timeout: float = 240.0) -> list[str]:
    """Run at the same time; what each said. All must end well."""
    started = [
        subprocess.Popen(c, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands
    ]
    said = [process.communicate(timeout=timeout)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n\n".join(said)
    return said


def one_of_two(folder: Path) -> None:
    """In each of two processes, one on each machine: what it sees of every run goes to a file of its rank."""
    import torch.distributed as dist

    from benchmark.lab import goldens

    found = {}
    for name in RESUMED:
        trained, seen = watched(name, runtime(folder / "two" / name, processes=2), goldens.images())
        found[name] = seen, curve(trained, "loss")
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_nodes_see_the_samples_masks_and_crops_of_one_process_and_reach_its_losses(images, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.system.test_nodes import one_of_two\n"
        "one_of_two(Path(sys.argv[1]))\n"
    )
    with two_namespaces() as nodes:
        places = [runtime(tmp_path, processes=2, nodes=2, node=node, head=f"{HEAD}:29517") for node in (0, 1)]
        together(
            [
                [*prefix, *torchrun.command(place, "proof"), str(script), str(tmp_path)]
                for prefix, place in zip(nodes, places, strict=True)
            ]
        )
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in RESUMED:
        alone, seen = watched(name, runtime(tmp_path / "alone" / name), images)
        same(seen, {step: joined([rank[name][0][step] for rank in ranks]) for step in seen})
        assert ranks[0][name][1] == pytest.approx(curve(alone, "loss"), rel=1e-5)


@pytest.mark.long
def test_the_same_command_on_two_nodes_fills_one_store(stores, tmp_path):
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    with two_namespaces() as nodes:
        command = [sys.executable, "-m", "benchmark", "run", "--track", "smoke", "--modality", "histo", "--seeds", "1"]
        command += ["--pretext", "mae", "--task", "phantom_local", "--threads", "1", "--nodes", "2"]
        command += ["--head", f"{HEAD}:29518", "--results", f"{tmp_path}/results", "--cache", f"{tmp_path}/cache"]
        said = together(
            [[*nodes[i], *command, "--boards", f"{tmp_path}/boards", "--node", str(i)] for i in (0, 1)],
        )
    assert "--nnodes 2 --node-rank 0" in said[0]
    assert "--nnodes 2 --node-rank 1" in said[1]
    from benchmark.storage import results

    rows = results.read(tmp_path / "results", "runs")
    assert sorted(rows.processes[rows.budget_flops > 0]) == [2]
    assert set(rows.status) == {"finished"}
    assert len(results.read(tmp_path / "results", "cells")) > 0
