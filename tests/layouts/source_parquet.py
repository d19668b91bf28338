"""Two shards in the layout of the nanopath dataset: JPEG tiles of two slides of one patient and of another slide."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24
SLIDES = ("TCGA-AB-1234-01Z-00-DX1", "TCGA-AB-1234-01Z-00-DX2", "slide")
GROUPS = {"TCGA-AB-1234", "slide"}
TILES = 4  # of each slide


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    rows = [(f"{slide}/{tile * SIDE}_0_0.jpg", jpeg(draws)) for slide in SLIDES for tile in range(TILES)]
    shard(folder / "shard-00000.parquet", rows[::2])
    shard(folder / "shard-00001.parquet", rows[1::2])


def jpeg(draws: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draws.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def shard(path: Path, rows: list[tuple[str, bytes]], *, columns: tuple[str, str] = ("path", "jpeg")) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(columns[0], pa.string()), (columns[1], pa.binary())])
    table = pa.table([[name for name, _ in rows], [image for _, image in rows]], schema=schema)
    pq.write_table(table, path, row_group_size=4, compression="none")
