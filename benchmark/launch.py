"""Several processes for one pretraining: torchrun, on GPUs (nccl) or CPU (gloo). Never `accelerate launch --cpu`, which
can run one process without a word; the worker asserts the world size that was asked for."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmark.recipe import Recipe, Runtime, canonical, from_json


def pretrain(
    recipe: Recipe, runtime: Runtime, label: str, synthetic: bool, spec: str, policy: str, watched: tuple[str, ...]
) -> None:
    """Pretrain one recipe in `runtime.processes` processes of this machine. Raises RuntimeError if they fail.

    spec and policy are those that `corpus.resolve` made the recipe's corpus from; watched: tasks of the online probe.
    """
    paths = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(runtime).items()}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        text = {"recipe": canonical(recipe), "runtime": paths, "label": label, "synthetic": synthetic}
        text |= {"spec": spec, "policy": policy, "watched": watched}
        job.write_text(json.dumps(text))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        command += [str(runtime.processes), "-m", "benchmark.launch", str(job)]
        code = subprocess.run(command, check=False).returncode
    if code:
        raise RuntimeError(f"{label}: the {runtime.processes} training processes ended with code {code}; see above")


def worker(job: Path) -> None:
    """One process of `pretrain`."""
    from torch import distributed

    from benchmark import corpus, data, health
    from benchmark import pretrain as training
    from tasks import store
    from tasks.collect import collect

    raw = json.loads(job.read_text())
    recipe = from_json(raw["recipe"])
    paths = {name: Path(raw["runtime"][name]) for name in ("data", "results", "cache")}
    runtime = Runtime(**(raw["runtime"] | paths))
    pinned = corpus.resolve(recipe.modality, raw["spec"], runtime.data, runtime.cache, raw["policy"])
    if pinned.corpus != recipe.corpus:
        raise RuntimeError(
            f"the corpus under {runtime.data} changed: {pinned.corpus.digest}, not {recipe.corpus.digest}"
        )
    images = data.open_images(pinned.members, recipe, runtime)
    tasks = [corpus.get(recipe.modality, name, raw["policy"]) for name in raw["watched"]]
    found = [(task, collect(task, runtime.data, runtime.cache)) for task in tasks]
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
    worker(Path(sys.argv[1]))
