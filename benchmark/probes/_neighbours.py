"""Nearest neighbours by cosine: found in fp32 on the device, ranked in float64, and the same on every device.

What is guaranteed: the neighbours of a query are those whose cosine in float64, rounded to a multiple of GRID, is
highest, the earlier row of the bank on a tie, in that order. The search keeps SPARE more than are asked for, and the
rounding error of fp32 has a bound: where a row that was left out might still belong to the neighbours, as with many
copies of one image or features that are all alike, the query is searched again in float64. So neither the device nor
the size of blocks decides; in that second search alone a cosine within 1e-15 of the middle between two multiples of
GRID may round to either.

Unit vectors are moved by the mean of the bank's, which changes no order; what fp32 then rounds is their differences,
not what all of them share: an untrained encoder's cosines may all be above .999.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmark.device import arithmetic

BLOCK = 1024  # queries at a time
SLICE = 16_384  # rows of the bank at a time
SPARE = 12  # candidates beyond those asked for
GRID = 2.0**-40  # cosines that round to the same multiple are equal
PLACES = 2**22  # rows that a bank may have, so that a rounded cosine and a row fit into 64 bits


class Bank:
    """Rows x (M, D) to search among. Raises ValueError where there are more than PLACES."""

    def __init__(self, x: np.ndarray):
        if len(x) > PLACES:
            raise ValueError(f"nearest neighbours among {len(x):,} rows: at most {PLACES:,}; use fewer training images")
        self.device = arithmetic.prepare()
        self.x, self.norm = x, _norm(x)
        self.centre = np.einsum("n,nd->d", 1 / self.norm, x) / len(x)
        self.moved = torch.empty(x.shape, dtype=torch.float32, device=self.device)
        self.offset = torch.empty(len(x), dtype=torch.float32, device=self.device)
        reach = []  # longest moved row and largest offset of every slice
        for rows in self._slices():
            moved = self._unit(rows) - self.centre
            offset = moved @ self.centre
            self.moved[rows], self.offset[rows] = torch.from_numpy(moved), torch.from_numpy(offset)
            reach.append((np.linalg.norm(moved, axis=1).max(), np.abs(offset).max()))
        self.length, self.shift = np.max(reach, axis=0)

    def nearest(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of queries x (N, D): the k rows nearest to each, nearest first, and their cosines, (N, k) float64."""
        index, cosine = np.empty((len(x), k), dtype=np.int64), np.empty((len(x), k))
        for start in range(0, len(x), BLOCK):
            some = slice(start, start + BLOCK)
            index[some], cosine[some] = self._nearest(x[some] / _norm(x[some])[:, None], k)
        return index, cosine

    def _nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        moved, count = query - self.centre, min(k + SPARE, len(self.x))
        score, found = self._search(torch.from_numpy(moved).float().to(self.device), count)
        index, cosine = self._ranked(query, found.cpu().numpy(), k)
        if count < len(self.x):  # cosine = score + query @ centre, but for the error of fp32
            length = np.linalg.norm(moved, axis=1) * self.length + self.shift
            error = (query.shape[1] + 4) * np.finfo(np.float32).eps * length
            left_out = score[:, -1].cpu().numpy() + query @ self.centre + error
            unsure = np.flatnonzero(~(cosine[:, -1] > left_out + 2 * GRID))
            if len(unsure):
                found = self._search_exactly(query[unsure], count)
                index[unsure], cosine[unsure] = self._ranked(query[unsure], found.cpu().numpy(), k)
        return index, cosine

    def _search(self, moved: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The highest scores (B, count), highest first, and their rows."""
        best = moved.new_empty(len(moved), 0), torch.empty(len(moved), 0, dtype=torch.int64, device=self.device)
        for rows in self._slices():
            score = torch.addmm(self.offset[rows], moved, self.moved[rows].mT)
            score, place = score.topk(min(count, score.shape[1]), dim=1)
            score, place = torch.cat([best[0], score], dim=1), torch.cat([best[1], place + rows.start], dim=1)
            score, order = score.topk(min(count, score.shape[1]), dim=1)
            best = score, place.gather(1, order)
        return best

    def _search_exactly(self, query: np.ndarray, count: int) -> Tensor:
        """Rows (B, count) by cosines in float64. One integer holds the rounded cosine and, to be higher for an earlier
        one, the row."""
        asked = torch.from_numpy(query).to(self.device)
        best = torch.empty(len(query), 0, dtype=torch.int64, device=self.device)
        for rows in self._slices():
            cosine = asked @ torch.from_numpy(self._unit(rows)).to(self.device).mT
            key = cosine.div_(GRID).round_().long().mul_(PLACES)
            key -= torch.arange(rows.start, rows.stop, device=self.device)
            best = torch.cat([best, key.topk(min(count, key.shape[1]), dim=1).values], dim=1)
            best = best.topk(min(count, best.shape[1]), dim=1).values
        return -best % PLACES

    def _ranked(self, query: np.ndarray, index: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The first k of candidates (B, C), with their cosines. Sums are numpy's own, so equal rows have equal ones."""
        index = np.sort(index, axis=1)
        cosine = (self.x[index] * query[:, None]).sum(axis=2) / self.norm[index]
        order = np.argsort(-np.round(cosine / GRID), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(cosine, order, axis=1)

    def _unit(self, rows: slice) -> np.ndarray:
        return self.x[rows] / self.norm[rows, None]

    def _slices(self) -> Iterator[slice]:
        for start in range(0, len(self.x), SLICE):
            yield slice(start, min(start + SLICE, len(self.x)))


def _norm(x: np.ndarray) -> np.ndarray:
    """Lengths (N,) float64 of rows, at least 1e-12."""
    return np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64)).clip(min=1e-12)
