"""Two small slides that OpenSlide opens: tiled TIFF pyramids, the left part glass and the right part tissue."""

import struct
from pathlib import Path

import numpy as np

TILE = 128  # px of a TIFF tile
HEIGHT, WIDTH = 1024, 1408
SLIDES = ("TCGA-AB-1234-01Z-00-DX1.tif", "slide.tif")
GLASS = 704  # columns of level 0


def write(folder: Path, *, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(SLIDES):
        slide(folder / name, picture(seed + number))


def picture(seed: int = 0) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 243, np.uint8)
    draws = np.random.default_rng(seed)
    image[:, GLASS:] = draws.integers((150, 70, 140), (191, 111, 181), (HEIGHT, WIDTH - GLASS, 3))
    return image


def slide(path: Path, image: np.ndarray, *, microns: float | None = 0.25, levels: int = 2) -> None:
    """Write an uncompressed tiled pyramid, each level half as wide and high; `microns` are those of a pixel."""
    out, entry = bytearray(b"II*\0\0\0\0\0"), 4
    for level in range(levels):
        height, width = image.shape[:2]
        rows, columns = -(-height // TILE), -(-width // TILE)
        padded = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
        padded[:height, :width] = image
        tiles = padded.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4)
        starts = [len(out) + number * TILE * TILE * 3 for number in range(rows * columns)]
        out += tiles.tobytes()
        tags = [(254, 4, [int(level > 0)]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [1])]
        tags += [(262, 3, [2]), (277, 3, [3])]
        if microns is not None:
            tags += [(282, 5, [round(1e4 / microns), 2**level]), (283, 5, [round(1e4 / microns), 2**level])]
        tags += [(284, 3, [1]), (296, 3, [3 if microns else 1]), (322, 3, [TILE]), (323, 3, [TILE])]
        tags += [(324, 4, starts), (325, 4, [TILE * TILE * 3] * len(starts))]
        directory = b""
        for tag, kind, values in tags:
            value = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
            if len(value) > 4:
                out, value = out + value, struct.pack("<I", len(out))
            directory += struct.pack("<HHI", tag, kind, len(values) // (2 if kind == 5 else 1)) + value.ljust(4, b"\0")
        out[entry : entry + 4] = struct.pack("<I", len(out))
        out += struct.pack("<H", len(tags)) + directory
        entry = len(out)
        out += bytes(4)
        image = image[: height // 2 * 2 : 2, : width // 2 * 2 : 2]
    path.write_bytes(out)
