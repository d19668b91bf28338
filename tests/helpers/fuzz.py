"""Small valid inputs, damaged at random, to every reader: what may come out is our own kind of error, soon, in bounded
memory.

    python -m tests.helpers.fuzz TARGET --cases 500 --seed 0

A target is a function that writes a valid input into a folder, and one that reads it. A case damages one file, reads,
and puts the file back. It is known by (target, seed, number); `--case N` does it alone, with its traceback.
"""

import argparse
import contextlib
import importlib
import io
import json
import random
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tasks
from tasks import host, sources
from tasks.base import DataError
from tasks.obtain import fetch
from tasks.reading import decoding, folders, squares

SLOW = 20.0  # seconds of one case
MEMORY = 3 * 2**30  # bytes of resident memory
PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "histo"
TOKENS = (
    b"\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"NaN", b"-1", b"1e999", b"../", b"\r\n", b'"', b"{", b"]",
    b"=1+1", b"PAR1", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xef\xbb\xbf", "é𝔸".encode(),
    b"cos\nsystem\n(S'true'\ntR.", b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>&c;',
    b"[" * 5000, b"," * 5000, b"9" * 400,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    write: Callable[[Path], None]
    read: Callable[[Path, str], None]  # folder, name of the damaged file
    errors: tuple[type[Exception], ...] = (DataError,)  # what may come out


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with one to four mutations."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = min(len(data) - at, draw.choice((1, 2, 4, 16, 256, 4096)))
        match draw.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + length] = draw.randbytes(length)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at:at] = draw.choice(TOKENS)
            case 6:
                token = draw.choice(TOKENS)
                data[at : at + len(token)] = token
            case 7:
                data[at : at + length] = bytes(length)
            case 8:
                other = draw.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def dataset(name: str) -> Target:
    """Scan a native layout and read the damaged sample, or the first ones, and their masks."""
    layout = importlib.import_module(f"tests.layouts.{name}")
    modality = next(m for m in tasks.modalities() if importlib.util.find_spec(f"tasks.{m}.{name}"))
    module = importlib.import_module(f"tasks.{modality}.{name}")
    task = module.TASKS[0] if hasattr(module, "TASKS") else module.TASK

    def read(folder: Path, damaged: str) -> None:
        samples = task.scan(folder)
        for sample in [s for s in samples if Path(s.id).stem == Path(damaged).stem][:2] or samples[:1]:
            if task.mask is not None:
                squares.mask_to_square(task, folder, sample, task.mask, 32)
            else:
                task.read(folder, sample, 32)

    return Target(layout.write, read)


def source(kind: str, options: str = "") -> Target:
    def write(folder: Path) -> None:
        if kind == "folder":
            from PIL import Image

            for suffix in ("png", "jpg", "tif", "bmp"):
                Image.radial_gradient("L").resize((24, 17)).convert("RGB").save(folder / f"one.{suffix}")
        else:
            importlib.import_module(f"tests.layouts.source_{kind}").write(folder)

    def read(folder: Path, damaged: str) -> None:
        opened = sources.open(f"{kind}:{folder}{options}", "ultrasound" if kind == "dicom" else "histo")
        samples = opened.scan(folder)
        for sample in [s for s in samples if Path(damaged).stem in s.id][:2] or samples[:1]:
            opened.read(folder, sample, 32)

    return Target(write, read)


def archive(suffix: str) -> Target:
    def write(folder: Path) -> None:
        (folder / "in" / "a").mkdir(parents=True)
        (folder / "in" / "a" / "b.txt").write_text("text\n" * 200)
        shutil.make_archive(str(folder / "made"), suffix, folder / "in")
        shutil.rmtree(folder / "in")

    def read(folder: Path, damaged: str) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            fetch.unpack(folder / damaged, folder / "out", most=2**20)

    return Target(write, read)


def described() -> Target:
    """Datasets without code: a description and its table."""
    from tasks.own import images

    def write(folder: Path) -> None:
        from PIL import Image

        rows = ["file,label,group,split"]
        for number in range(12):
            Image.new("RGB", (12, 12), (number, 0, 0)).save(folder / f"{number}.png")
            split = ("train", "train", "val", "test")[number // 3]
            rows.append(f"{number}.png,{'ab'[number % 2]},g{number},{split}")
        (folder / "table.csv").write_text("\n".join(rows) + "\n")

    def read(folder: Path, damaged: str) -> None:
        for row in images.of_table(folder / "table.csv").rows:
            decoding.decode(row.path)

    return Target(write, read)


def stored() -> Target:
    """The result reader: every table, seal and number of a small store."""
    from benchmark.storage import results, schema, seals
    from leaderboards.audit.verify import verify

    def write(folder: Path) -> None:
        for kind in ("baselines", "locality"):
            first = sorted((PUBLISHED / kind).iterdir())[0]
            shutil.copytree(first, folder / "histo" / kind / first.name)

    def read(folder: Path, damaged: str) -> None:
        seals.broken((folder / damaged).parent)
        for name in schema.TABLES:
            results.read(folder, name)
        verify(folder)

    return Target(write, read, (DataError, schema.SchemaError))


def weights() -> Target:
    from benchmark.encoders import encoder
    from benchmark.lab.goldens import short
    from benchmark.storage import schema

    spec = short("mae").encoder

    def write(folder: Path) -> None:
        encoder.save(encoder.Encoder(spec, seed=0), folder / "encoder.safetensors")

    def read(folder: Path, damaged: str) -> None:
        encoder.load(spec, folder / damaged)

    return Target(write, read, (DataError, schema.SchemaError))


def checkpoints() -> Target:
    """A damaged checkpoint is never an error: the one before it is taken, or none."""
    import torch

    from benchmark.storage import checkpoint

    model = torch.nn.Linear(4, 4)
    optimiser = torch.optim.AdamW(model.parameters())

    def write(folder: Path) -> None:
        model(torch.ones(1, 4)).sum().backward()
        optimiser.step()
        checkpoint.save(folder, 1, model, optimiser, {"curves": [], "seconds": 1.0})

    def read(folder: Path, damaged: str) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            checkpoint.load(folder, model, optimiser)

    return Target(write, read, ())


def recipes() -> Target:
    from benchmark.lab.goldens import short
    from benchmark.recipe import canonical, from_json

    def write(folder: Path) -> None:
        (folder / "recipe.json").write_text(canonical(short("mae")))

    def read(folder: Path, damaged: str) -> None:
        try:
            from_json((folder / damaged).read_text(errors="replace"))
        except ValueError as error:
            if type(error) is not ValueError or "recipe" not in str(error):
                raise TypeError(f"not our own error: {error!r}") from error

    return Target(write, read, ())


def embeddings() -> Target:
    from benchmark.encoders import external

    def write(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = {"sample": ["a", "b", "c"], "embedding": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
        pq.write_table(pa.table(rows), folder / "found.parquet")

    def read(folder: Path, damaged: str) -> None:
        external.open_encoder(str(folder / damaged), None)

    return Target(write, read)


LAYOUTS = sorted(
    path.stem
    for path in (Path(__file__).parents[1] / "layouts").glob("*.py")
    if not path.stem.startswith(("_", "source_"))
)
TARGETS: dict[str, Callable[[], Target]] = {
    **{name: (lambda name=name: dataset(name)) for name in LAYOUTS},
    **{f"source {kind}": (lambda kind=kind: source(kind)) for kind in ("folder", "parquet", "slides", "dicom")},
    **{suffix: (lambda suffix=suffix: archive(suffix)) for suffix in ("zip", "tar", "gztar", "xztar")},
    "described": described,
    "stored": stored,
    "weights": weights,
    "checkpoints": checkpoints,
    "recipes": recipes,
    "embeddings": embeddings,
}


def fuzz(name: str, cases: int, seed: int, only: int | None = None) -> list[dict[str, object]]:
    """What went wrong: {case, file, error}. only: the number of the one case to do, with its traceback."""
    target, wrong = TARGETS[name](), []
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "data"
        folder.mkdir()
        target.write(folder)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        small = [one for one in names if (folder / one).suffix not in folders.IMAGE_SUFFIXES]
        target.read(folder, names[0])
        for number in range(cases) if only is None else [only]:
            draw = random.Random(f"{name} {seed} {number}")
            chosen = draw.choice(small if small and draw.random() < 0.5 else names)
            path = folder / chosen
            content = path.read_bytes()
            path.write_bytes(damaged(content, draw))
            began = time.monotonic()
            try:
                target.read(folder, chosen)
            except target.errors:
                pass
            except Exception as error:
                wrong.append({"case": number, "file": chosen, "error": f"{type(error).__name__}: {error}"[:300]})
                if only is not None:
                    traceback.print_exc()
            if (took := time.monotonic() - began) > SLOW:
                wrong.append({"case": number, "file": chosen, "error": f"took {took:.0f} seconds"})
            path.write_bytes(content)
            shutil.rmtree(folder / "out", ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak > MEMORY:
        wrong.append({"case": -1, "file": "", "error": f"{peak / 2**30:.1f} GB of memory at the most"})
    return wrong


if __name__ == "__main__":
    host.use_utf8()
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int)
    asked = parser.parse_args()
    print(json.dumps(fuzz(asked.target, asked.cases, asked.seed, asked.case)))
