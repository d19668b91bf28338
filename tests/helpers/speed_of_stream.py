"""Very large corpora, simulated: `python -m tests.helpers.speed_of_stream [ROWS …]`.

Shards of 10,000 JPEG tiles of 96 pixels, smoothed noise, in row groups of 500; SHARDS different ones, linked under as
many names as the rows ask for. Opening, ordering and seeking are those of such a corpus; reading is from memory that
the machine has cached, so that decoding is what is measured there.
"""

import io
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tasks import host, sources

ROWS, GROUP, SHARDS, SIDE = 10_000, 500, 4, 96
BATCH, PIXELS, BATCHES = 256, 64, 100


def write(folder: Path) -> list[Path]:
    draws, made = np.random.default_rng(0), []
    for number in range(SHARDS):
        images = [tile(draws) for _ in range(ROWS)]
        table = pa.table(
            {"path": [f"{number}/{row}.jpg" for row in range(ROWS)], "jpeg": pa.array(images, pa.binary())}
        )
        made.append(folder / f"source-{number}")
        pq.write_table(table, made[-1], row_group_size=GROUP, compression="none", use_dictionary=False)
    return made


def tile(draws: np.random.Generator) -> bytes:
    coarse = Image.fromarray(draws.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(folder: Path) -> str:
    before, began = resident(), time.perf_counter()
    found = sources.open(f"stream:{folder}", "histo").stream(folder)
    opened, grown = time.perf_counter() - began, resident() - before
    index = found.first.nbytes + found.shard.nbytes + found.group.nbytes

    def batch(step: int) -> np.ndarray:
        return found.take(found.order(0, 0, step * BATCH, (step + 1) * BATCH, BATCH), PIXELS, "crop")

    began = time.perf_counter()
    batch(0)
    first = time.perf_counter() - began
    middle = found.count // BATCH // 2
    found.held.clear()
    began = time.perf_counter()
    batch(middle)
    sought = time.perf_counter() - began
    began = time.perf_counter()
    for step in range(middle + 1, middle + 1 + BATCHES):
        batch(step)
    speed = BATCHES * BATCH / (time.perf_counter() - began)
    return (
        f"{found.count:>11,} rows: opened in {opened:.2f} s, index {index / 1e6:.2f} MB, process grew by "
        f"{grown / 1e6:.0f} MB; first batch after {first:.2f} s, one in the middle of the epoch after {sought:.2f} s; "
        f"{speed:,.0f} rows/s"
    )


def library(folder: Path) -> float:
    """Rows a second of `datasets`, streaming the same shards through a shuffle buffer of the same size."""
    from datasets import load_dataset

    from tasks.reading import decoding, squares

    stream = load_dataset(
        "parquet", data_files=sorted(map(str, folder.glob("*.parquet"))), split="train", streaming=True
    )
    rows = iter(stream.shuffle(seed=0, buffer_size=16_384))

    def some(count: int) -> None:
        for _ in range(count):
            squares.to_square(decoding.decode(Path("x"), next(rows)["jpeg"]), PIXELS, "crop")

    some(BATCH)
    began = time.perf_counter()
    some(BATCHES * BATCH)
    return BATCHES * BATCH / (time.perf_counter() - began)


def main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as top:
        made = write(Path(top))
        for size in sizes:
            folder = Path(top) / str(size)
            folder.mkdir()
            for number in range(size // ROWS):
                os.link(made[number % SHARDS], folder / f"{number:06d}.parquet")
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                print(fresh.submit(measure, folder).result(), flush=True)
                if size == sizes[0]:
                    speed = fresh.submit(library, folder).result()
                    print(f"{speed:,.0f} rows/s by datasets, shuffle buffer of 16,384, one thread", flush=True)


if __name__ == "__main__":
    host.use_utf8()
    main([int(text) for text in sys.argv[1:]] or [100_000, 1_000_000, 10_000_000, 100_000_000])
