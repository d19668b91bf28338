"""Where the features of an encoder on a store of images lie, and how they are read: memory-mapped. No torch.

    <cache>/features/<weights>-<transform>-<store>/   <part>.npy: float32 (N, D), or float16 (N, patches, D) of tokens

The name holds what determines the values: the weights' SHA-256, the hash of everything between a stored image and the
encoder's answer, the kind of device and the rule of its rounding included, and the address of the store (for a part of
its images, a hash of which). Written once, renamed whole.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmark.device import arithmetic
from benchmark.recipe import ENGINE, EncoderSpec
from benchmark.storage import temporary
from tasks.base import digest

FORMAT = 1  # bump when the values or the files change
PARTS = ("patches", "cls", "tokens")


def folder(
    cache: Path,
    weights: str,
    spec: EncoderSpec,
    store: str,
    *,
    tokens: bool = False,
    change: str = "",
    rows: np.ndarray | None = None,
) -> Path:
    """tokens: of every patch, instead of pooled. change: what is done to the images, in words. rows: of the store."""
    transform = digest(FORMAT, ENGINE, arithmetic.describe(), spec, tokens, change)[:8]
    images = store if rows is None else digest(store, *rows.tolist())[:12]
    return cache / "features" / f"{weights[:16]}-{transform}-{images}"


def read(path: Path) -> dict[str, np.ndarray] | None:
    """The parts of a folder, memory-mapped; None where it does not exist."""
    if not path.exists():
        return None
    files = {part: path / f"{part}.npy" for part in PARTS}
    return {part: np.load(file, mmap_mode="r") for part, file in files.items() if file.exists()}


def write(path: Path, blocks: Iterable[dict[str, np.ndarray]], count: int) -> None:
    """Store the parts of `count` images, block after block as they come; the first of two writers wins."""
    part = temporary.beside(path)
    part.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for block in blocks:
                for name, values in block.items():
                    if name not in files:
                        files[name] = stack.enter_context((part / f"{name}.npy").open("wb"))
                        shape = {"shape": (count, *values.shape[1:]), "fortran_order": False}
                        header = shape | {"descr": np.lib.format.dtype_to_descr(values.dtype)}
                        np.lib.format.write_array_header_1_0(files[name], header)
                    files[name].write(np.ascontiguousarray(values).data)
        os.rename(part, path)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if not path.exists():
            raise OSError(f"{path}: could not be written, is there space left on the device? ({error})") from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
