"""What a frozen encoder looks at, as maps over the patches of an image, and what such maps are worth. Pure functions.

One recipe for all pretexts. N patches, numbered row by row; nothing is smoothed, a map has one value for each patch.

attention   of each head of the last block, from the query to every patch. The query is the cls token where the
            objective trains it (the pretext's QUERY), else the mean over the rows of all patches.
rollout     attention through all blocks (Abnar and Zuidema, arXiv 2005.00928): heads averaged, half of each block's
            attention and half of the residual path, multiplied from the first block to the last; the same query.
cosine      of the tokens after the final norm with that of an anchor patch.
PCA         of the tokens after the final norm: see `principal_colours`.
artefacts   patches whose token before the final norm is over TALL times as long as the median one of the same sheet
            (Darcet et al., arXiv 2309.16588, who cut a histogram by eye).

Scores of a map where the true place of the lesion is known (`score`), of what a nuisance or losing the weights does to
it (`correlate`): the sanity check of Adebayo et al. (arXiv 1810.03292).
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from torch import Tensor

from benchmark.encoders.encoder import Encoder, project
from benchmark.parts import draws
from benchmark.probes.dense import covered

VERSION = 1  # bump with any change to a map or a score
KINDS = ("attention", "rollout", "cosine")  # those that are scored
ANCHORS = 3
TALL = 2.0
FLAT = 8  # grey levels: a patch whose values spread less shows nothing, be it black or white


class Seen(NamedTuple):
    """What an encoder made of images."""

    heads: (
        np.ndarray
    )  # (B, heads, N) attention of the last block from the query; a row sums to 1 less the prefix' share
    rollout: np.ndarray  # (B, N)
    tokens: np.ndarray  # (B, N, D) after the final norm
    lengths: np.ndarray  # (B, N) Euclidean, before it

    @property
    def attention(self) -> np.ndarray:
        """(B, N): the mean of the heads, which is what is scored."""
        return self.heads.mean(axis=1)


@torch.inference_mode()
def look(encoder: Encoder, images: Tensor, query: str) -> Seen:
    """Images (B, 3, S, S) in [0, 1]; query: "cls" or "patches". Raises ValueError for a cls that is in no block."""
    spec = encoder.spec
    if query == "cls" and not spec.cls:
        raise ValueError("the cls token of this encoder does not enter its blocks; ask for the query 'patches'")
    rows = slice(0, 1) if query == "cls" else slice(spec.prefix, None)
    x, rotation = encoder.sequence(images)
    still = torch.eye(x.shape[1], device=x.device)
    rolled = still
    for block in encoder.vit.blocks:
        attention = block.attn
        q, k, v = project(attention, attention.qkv(block.norm1(x)), rotation)
        weights = (q @ k.mT * attention.head_dim**-0.5).softmax(dim=-1)  # (B, heads, T, T)
        x = x + block.ls1(attention.proj((weights @ v).transpose(1, 2).flatten(2)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        rolled = (weights.mean(dim=1) + still) / 2 @ rolled
    patches = slice(spec.prefix, None)
    return Seen(
        heads=weights[:, :, rows, patches].mean(dim=2).float().cpu().numpy(),
        rollout=rolled[:, rows, patches].mean(dim=1).float().cpu().numpy(),
        tokens=encoder.vit.norm(x)[:, patches].float().cpu().numpy(),
        lengths=x[:, patches].norm(dim=-1).float().cpu().numpy(),
    )


def cosine(tokens: np.ndarray, anchor: int) -> np.ndarray:
    """Tokens (N, D) of an image -> (N,) cosines with that of a patch."""
    unit = tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-12)
    return unit @ unit[anchor]


def find_visible(images: np.ndarray, grid: int) -> np.ndarray:
    """uint8 (B, S, S, 3) -> (B, N) bool: the patches that show something, be it faint."""
    batch, side = images.shape[:2]
    cut = images.reshape(batch, grid, side // grid, grid, side // grid, 3)
    return (np.ptp(cut, axis=(2, 4)).max(axis=-1) >= FLAT).reshape(batch, -1)


def draw_anchors(sample: str, visible: np.ndarray, inside: np.ndarray | None = None) -> list[int]:
    """ANCHORS different patches of an image, drawn by its id alone among the visible ones (N,), so the same for every
    encoder. inside (N,), the share of each patch in the lesion: the first anchor is then the patch that holds most."""
    order = np.argsort(draws.uniform(draws.text_keys([sample]), "maps/anchors", len(visible))[0], kind="stable")
    chosen = [int(patch) for patch in order if visible[patch]] or [int(patch) for patch in order]
    if inside is not None and inside.any():
        most = int(inside.argmax())
        chosen = [most, *(patch for patch in chosen if patch != most)]
    return chosen[:ANCHORS]


def find_patch(place: tuple[float, float], grid: int) -> int:
    """The patch at a place (x, y) in shares of the side. Raises ValueError outside of the image."""
    if not all(0 <= value < 1 for value in place):
        raise ValueError(f"anchor {place[0]:g},{place[1]:g} lies outside the image; give shares of the side, 0 to 1")
    return int(place[1] * grid) * grid + int(place[0] * grid)


def principal_colours(tokens: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (M, N, D) of all images of a sheet -> colours (M, N, 3) in [0, 1], and the variance share of each.

    Fitted on the tokens of visible patches (M, N) of all images together, centred and not whitened, so colours compare
    within a sheet. The sign is such that the largest loading is positive; each component is spread linearly from its
    2nd to its 98th percentile over those patches. A patch that is not visible is grey.
    """
    fitted = PCA(n_components=3, svd_solver="full").fit(tokens[visible].astype(np.float64))
    loadings = fitted.components_
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)
    scores = (
        fitted.transform(tokens.reshape(-1, tokens.shape[-1])).reshape(*tokens.shape[:2], 3) * np.sign(largest)[:, 0]
    )
    low, high = np.percentile(scores[visible], [2, 98], axis=0)
    colours = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours[~visible] = 0.5
    return colours, fitted.explained_variance_ratio_


def find_artefacts(lengths: np.ndarray) -> np.ndarray:
    """(M, N) lengths of the tokens of a sheet -> (M, N) bool: the artefact tokens."""
    return lengths > TALL * np.median(lengths)


def enlarge(values: np.ndarray, side: int) -> np.ndarray:
    """A map (N,) -> (side, side), bilinear between the centres of patches."""
    grid = int(len(values) ** 0.5)
    square = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).reshape(1, 1, grid, grid)
    return torch.nn.functional.interpolate(square, (side, side), mode="bilinear", align_corners=False)[0, 0].numpy()


def score(kind: str, values: np.ndarray, mask: np.ndarray, anchor: int) -> dict[str, float]:
    """Scores of a map (N,) against the lesion, bool (S, S), each with what chance gives, as "<score>, chance".

    pointing game   1 where the patch of the highest value touches the lesion (Zhang et al., arXiv 1608.00507)
    AUPRC           of the enlarged map as a score of each pixel
    hit rate        of a cosine map, its anchor inside: of as many nearest patches as touch the lesion, how many do
    """
    grid = int(len(values) ** 0.5)
    touches = covered(mask[None], grid)[0] > 0
    if kind == "cosine":
        near = np.argsort(-np.delete(values, anchor), kind="stable")
        others = np.delete(touches, anchor)
        if not others.any():
            return {}
        return {"hit rate": float(others[near[: others.sum()]].mean()), "hit rate, chance": float(others.mean())}
    return {
        "pointing game": float(touches[values.argmax()]),
        "pointing game, chance": float(touches.mean()),
        "AUPRC": float(average_precision_score(mask.ravel(), enlarge(values, len(mask)).ravel())),
        "AUPRC, chance": float(mask.mean()),
    }


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps (N,); NaN where one of them is constant."""
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else float("nan")
