"""Several processes for one pretraining: torchrun, on GPUs (nccl) or CPU (gloo), on one machine or several. Never
`accelerate launch --cpu`, which can run one process without a word; `loop.train` asserts the world size that was
asked for."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from benchmark.recipe import Recipe, Runtime, canonical, from_json, key
from tasks import host
from tasks.base import ProcessError


def pretrain(
    recipe: Recipe, runtime: Runtime, label: str, synthetic: bool, spec: str, policy: str, watched: tuple[str, ...]
) -> None:
    """Pretrain one recipe in `runtime.processes` processes. Raises ProcessError if they fail.

    spec and policy are those that `corpus.resolve` made the recipe's corpus from; watched: tasks of the online probe.
    """
    paths = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(runtime).items()}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        text = {"recipe": canonical(recipe), "runtime": paths, "label": label, "synthetic": synthetic}
        text |= {"spec": spec, "policy": policy, "watched": watched, "parent": os.getpid()}
        job.write_text(json.dumps(text), encoding="utf-8")
        launcher = command(runtime, key(recipe))
        if runtime.nodes > 1:
            print(
                f"{label}: {shlex.join([*launcher, '-m', 'benchmark.execution.torchrun', str(job)])}", file=sys.stderr
            )
        process = subprocess.Popen([*launcher, "-m", "benchmark.execution.torchrun", str(job)])
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # the processes write their checkpoint
            process.wait()
            raise
    if code:
        raise ProcessError(
            f"{label}: the {runtime.processes} training processes ended with code {code}; which rank was first is "
            "written above. Run the same command again to go on from the last checkpoint"
        )


def command(runtime: Runtime, run: str) -> list[str]:
    """torchrun for this machine's share of the processes. Raises ValueError for nodes that cannot meet."""
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    if runtime.nodes == 1:
        return [*launcher, "--standalone", "--nproc-per-node", str(runtime.processes)]
    address, _, port = runtime.head.rpartition(":")
    if not address or not port.isdecimal():
        raise ValueError(f"HEAD={runtime.head!r}: with NODES, give address:port of node 0, such as HEAD=10.0.0.1:29500")
    if not 0 <= runtime.node < runtime.nodes:
        raise ValueError(f"NODE={runtime.node}: the {runtime.nodes} nodes are numbered from 0")
    each, rest = divmod(runtime.processes, runtime.nodes)
    if rest:
        raise ValueError(f"{runtime.processes} processes cannot be shared evenly by {runtime.nodes} nodes")
    launcher += ["--nnodes", str(runtime.nodes), "--node-rank", str(runtime.node), "--nproc-per-node", str(each)]
    return [*launcher, "--rdzv-id", run, "--master-addr", address, "--master-port", port]


def end_with(parent: int) -> None:
    """End this process once the one with that id is gone, even if it was killed: nothing else would tell it."""

    def watch() -> None:
        while True:
            try:
                os.kill(parent, 0)
            except ProcessLookupError:
                os._exit(1)
            time.sleep(1.0)

    threading.Thread(target=watch, daemon=True).start()


def worker(job: Path) -> None:
    """One process of `pretrain`."""
    from torch import distributed

    from benchmark import corpus, registry
    from benchmark.training import data, health, stopping
    from benchmark.training import pretrain as training
    from tasks import store
    from tasks.duplicates import scan_grouped

    stopping.listen()
    raw = json.loads(job.read_text(encoding="utf-8"))
    end_with(raw["parent"])
    recipe = registry.typed(from_json(raw["recipe"]))
    paths = {name: Path(raw["runtime"][name]) for name in ("data", "results", "cache")}
    runtime = Runtime(**(raw["runtime"] | paths))
    pinned = corpus.resolve(recipe.modality, raw["spec"], runtime.data, runtime.cache, raw["policy"])
    if pinned.corpus != recipe.corpus:
        raise ProcessError(
            f"the corpus under {runtime.data} changed: {pinned.corpus.digest}, not {recipe.corpus.digest}"
        )
    images = data.open_images(pinned.members, recipe, runtime)
    tasks = [corpus.get(recipe.modality, name, raw["policy"]) for name in raw["watched"]]
    found = [(task, scan_grouped(task, runtime.data, runtime.cache)) for task in tasks]
    built = store.build(
        *(found[0][0], runtime.data, found[0][1], recipe.stored_pixels, runtime.cache / "stores"),
        skip_unreadable=runtime.skip_unreadable,
    )
    kept = [(task, [sample for sample in samples if sample.id not in built.skipped]) for task, samples in found]
    watch = health.watch(kept, built, recipe)
    training.pretrain(recipe, runtime, images, raw["label"], raw["synthetic"], watch)
    distributed.barrier()  # a process that leaves while another still talks to it can abort that one
    distributed.destroy_process_group()


if __name__ == "__main__":
    host.use_utf8()
    from benchmark.training.stopping import Stopped

    try:
        worker(Path(sys.argv[1]))
    except (Stopped, KeyboardInterrupt) as end:
        sys.exit(getattr(end, "code", 130))
