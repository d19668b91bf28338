"""How many of a pretext's crops hold all the structures that a label relates: a crop that holds one of two cannot say
whether they agree. `python -m benchmark.maps.crops_seen` prints it for DINOv3."""

import numpy as np
import typer

from benchmark.parts.draws import Draws, keyed, text_keys
from benchmark.pretexts import dinov3
from benchmark.recipe import EncoderSpec
from benchmark.tracks import MICRO
from tasks import host
from tasks.phantoms import relation, scenes

EPOCHS = 20  # of crops that are drawn of every image
PATIENTS = 500


def find_held(axes: np.ndarray, points: np.ndarray, radius: float = 0.0) -> np.ndarray:
    """Which crops hold which structures whole.

    axes: (2, B, K, 2), start and extent of K crops of each image along x and y, as `Crops.draw` has them, negative
    where the crop is mirrored; points: (B, P, 2), x and y of the centres of P structures of each image; radius: of a
    structure. All in shares of the stored side. Returns (B, K, P) bool."""
    ends = np.stack([axes[..., 0], axes.sum(axis=-1)])  # (2, 2, B, K)
    near, far = (np.moveaxis(side, 0, -1)[:, :, None] for side in (ends.min(axis=0), ends.max(axis=0)))
    place = points[:, None]
    return ((near <= place - radius) & (place + radius <= far)).all(axis=-1)


def measure_dinov3(
    points: np.ndarray, settings: dinov3.Settings, encoder: EncoderSpec, modality: str, radius: float = 0.0
) -> dict[str, float]:
    """Share of DINOv3's "globals" and "locals" that hold all P structures of their image. points, radius: as in
    `find_held`; B images are drawn EPOCHS times."""
    images = text_keys([f"image/{i}" for i in range(len(points))])
    found: dict[str, list[float]] = {}
    for epoch in range(EPOCHS):
        drawn = Draws(keyed(images, epoch), text_keys([f"epoch/{epoch}"]), 0, len(points))
        for crops in dinov3.crops(settings, encoder, modality):
            axes = crops.draw(drawn)[f"{crops.purpose}/axes"]
            found.setdefault(crops.purpose, []).append(float(find_held(axes, points, radius).all(axis=-1).mean()))
    return {purpose: float(np.mean(shares)) for purpose, shares in found.items()}


def main() -> None:
    """Print, for each distance of the phantoms' relation, how many of DINOv3's crops hold the marked pair."""
    for modality in scenes.MODALITIES:
        for distance in relation.APART:
            pairs = [relation.place(np.random.default_rng(i), distance, 0, 1)[:2] for i in range(PATIENTS)]
            points = np.array([[(one.x, one.y) for one in pair] for pair in pairs])
            for what, radius in (("centres", 0.0), ("whole", relation.RADIUS)):
                found = measure_dinov3(points, dinov3.settings(MICRO), MICRO, modality, radius)
                shares = ", ".join(f"{purpose} {share:.0%}" for purpose, share in found.items())
                typer.echo(f"{modality:<11} {distance:<7} {what:<8} {shares}")


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
