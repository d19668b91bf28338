"""hub:<name>: images of a Hugging Face dataset, streamed once into a local copy.

What        <name>[+<configuration>][:<split>][@<column>][?limit=<N>], such as hub:owner/name:train@image?limit=10000.
            The split is `train` and the column the only one of images, unless said; a column of bytes will do. A
            folder that `datasets` reads is a name too
Copy        the first scan writes the encoded images, as they are, to DATA/hub in the layout of the kind `parquet`,
            which reads them from then on. A shard is renamed when whole and holds the stream's position, so a killed
            copy goes on at the exact image. To take a newer revision, delete the folder
Group       patient or slide, where the dataset has a column `path` as nanopath has; else the image
Traps       a dataset that its owner changes during the copy is copied in part old, in part new
"""

import json
import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from tasks import sources
from tasks.base import Access, DataError, Sample, Source
from tasks.sources import parquet

KIND = "hub"
GROUP_KIND = "image (patient or slide, where the dataset's paths tell it)"
ROWS, BYTES, GROUP = 10_000, 2**27, 64  # a shard ends with that many images or bytes; images in a row group
SHARD = "shard-00000-of-00001"  # how the names of shards begin
NEXT = b"next"  # key of a shard's metadata: the stream's position behind it, "" behind the last
GRAMMAR = re.compile(
    r"(?P<name>[^:@?+]+)(\+(?P<configuration>[\w.-]+))?(:(?P<split>[\w.-]+))?"
    r"(@(?P<column>[\w.-]+))?(\?limit=(?P<limit>[1-9]\d*))?"
)


def scan(data: Path, *, location: str) -> list[Sample]:
    materialise(location, data)
    return parquet.scan(data, location=str(_folder(data, location)))


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    return parquet.read(data, sample, pixels, location=str(_folder(data, location)))


def materialise(location: str, data: Path) -> None:
    """Copy the dataset, or the rest of it, to a folder in data/hub. Raises DataError where it cannot be read, and where
    parts of several machines lie."""
    from filelock import FileLock

    folder = _folder(data, location)
    folder.mkdir(parents=True, exist_ok=True)
    if others := sorted(path.name for path in folder.glob("shard-*.parquet") if not path.name.startswith(SHARD)):
        raise DataError(f"{folder}: {others[0]} is a part of several machines' copy; delete the folder to copy it anew")
    with FileLock(folder / ".lock"):
        try:
            _copy(_wanted(location), folder)
        except DataError:
            raise
        except Exception as error:  # of the hub, the network, a file of the dataset: they have no common base
            raise DataError(
                f"hub:{location}: cannot be streamed ({type(error).__name__}: {error}); check the name, the "
                "network and your access (`hf auth login`), then run again: it goes on where it stopped"
            ) from error


def _copy(wanted: dict[str, str | None], folder: Path) -> None:
    from tqdm import tqdm

    position, count, shards = _left(folder)
    if position == "":
        return
    dataset, column = _dataset(wanted)
    if position:
        dataset.load_state_dict(json.loads(position))
    limit = int(wanted["limit"]) if wanted["limit"] else None
    stream = iter(dataset)
    with tqdm(desc=wanted["name"], initial=count, total=limit, unit=" images") as bar:
        while position != "":
            images, paths, size, full = [], [], 0, False
            for row in islice(stream, None if limit is None else limit - count):
                origin = row.get("path")
                mark = f"00000-{count + len(paths):09d}"  # unique, where the dataset's paths may not be
                paths.append(f"{origin}#{mark}" if isinstance(origin, str) else mark)
                images.append(_encoded(row[column], wanted["name"], column))
                size += len(images[-1])
                full = len(images) == ROWS or size >= BYTES
                if full:
                    break
            count += len(images)
            position = json.dumps(dataset.state_dict()) if full and count != limit else ""
            _write(folder / f"{SHARD}-{shards:05d}.parquet", paths, images, position)
            shards += 1
            bar.update(len(images))


def _dataset(wanted: dict[str, str | None]) -> tuple:
    """The stream, its images left encoded, and the column that holds them."""
    from datasets import Image, load_dataset

    dataset = load_dataset(wanted["name"], wanted["configuration"], split=wanted["split"], streaming=True)
    features = dataset.features or {}
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    column = wanted["column"] or (images[0] if len(images) == 1 else "")
    if not column or (features and column not in features):
        raise DataError(
            f"{wanted['name']}: no column {column!r} of images, found {', '.join(features) or 'none'}; say @<column>"
        )
    return dataset.cast_column(column, Image(decode=False)) if column in images else dataset, column


def _encoded(value: object, name: str, column: str) -> bytes:
    import fsspec

    if isinstance(value, dict) and value.get("path") and not value.get("bytes"):
        with fsspec.open(value["path"], "rb") as file:
            return file.read()
    image = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(image, bytes):
        raise DataError(f"{name}: column {column!r} holds {type(image).__name__}, not encoded images; say @<column>")
    return image


def _write(path: Path, paths: list[str], images: list[bytes], position: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("path", pa.string()), ("jpeg", pa.binary())], metadata={NEXT: position})
    unfinished = path.with_name(f".{path.name}.part")
    pq.write_table(
        pa.table([paths, images], schema=schema),
        unfinished,
        row_group_size=GROUP,
        compression="none",
        use_dictionary=False,
    )
    unfinished.replace(path)


def _left(folder: Path) -> tuple[str | None, int, int]:
    """Where the copy was left: the stream's position (None at the start, "" at the end), images, shards."""
    import pyarrow.parquet as pq

    footers = [pq.read_metadata(path) for path in sorted(folder.glob(f"{SHARD}-*.parquet"))]
    position = footers[-1].metadata[NEXT].decode() if footers else None
    return position, sum(footer.num_rows for footer in footers), len(footers)


def _wanted(location: str) -> dict[str, str | None]:
    match = GRAMMAR.fullmatch(location)
    if match is None:
        raise DataError(f"hub:{location} is not like hub:owner/name[+configuration][:split][@column][?limit=N]")
    return match.groupdict() | {"split": match["split"] or "train"}


def _folder(data: Path, location: str) -> Path:
    """Absolute, so that the kind `parquet` finds it from any data folder."""
    wanted = _wanted(location)
    details = (
        wanted["configuration"] or "default",
        wanted["split"],
        wanted["column"] or "images",
        wanted["limit"] or "all",
    )
    return (data / "hub" / wanted["name"].strip("/").replace("/", "--") / "-".join(details)).absolute()


def open_source(location: str, modality: str) -> Source:
    name = _wanted(location)["name"]
    public = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    access = Access(home=f"https://huggingface.co/datasets/{name}", licence="see its page", citation="")
    return sources.source(KIND, location, modality, sys.modules[__name__], access=access if public else sources.LOCAL)
