"""A tiny GBCU in its native layout: unlabelled names, lists without a header, boxes, predicted regions."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN, TEST = (16, 20, 9), (3, 5, 4)  # images of each class, a 25th and a tenth
IMAGES = sum(TRAIN) + sum(TEST)
KINDS = (("nml",), ("stn", "bmt", "abn"), ("malg", "abn"))  # of the boxes, by label


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "GBCU-Shared"
    (top / "imgs").mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    boxes, regions = {}, {}
    parts = [
        (part, label)
        for part, counts in (("train", TRAIN), ("test", TEST))
        for label in range(3)
        for _ in range(counts[label])
    ]
    for number, index in enumerate(draws.permutation(IMAGES).tolist()):
        (part, label), name = parts[index], f"im{number:05d}.jpg"
        width, height = draws.integers(100, 130).item(), draws.integers(70, 90).item()
        Image.fromarray(draws.integers(0, 256, (height, width, 3), np.uint8)).save(top / "imgs" / name)
        lists[part].append(f"{name},{label}")
        boxes[name] = {"dim": [width, height], "bbs": [[kind, [10, 12, 60, 50]] for kind in KINDS[label]]}
        regions[name] = {"Boxes": [[9, 11, 61, 52]] if number else [], "Gold": [10, 12, 60, 50]}
    for split, lines in lists.items():
        (top / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (top / "bbox_annot.json").write_text(json.dumps(boxes))
    (top / "roi_pred.json").write_text(json.dumps(regions))
