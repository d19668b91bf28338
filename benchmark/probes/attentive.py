"""Attentive probe: one learned query, one cross-attention block over the patch tokens, a linear layer (V-JEPA, arXiv
2404.08471, 4.1 and appendix: LayerNorm on the tokens, MLP ratio 4, AdamW with weight decay 1e-3 and a cosine to 0, 20
epochs, gradients clipped at 1).

Heads of 64 dimensions. Every learning rate of the grid is trained to its end; the one with the highest log-likelihood
on the validation groups answers. Unlike the linear probe it is not fitted again with the validation part. Tokens are
fp16 and pooled by the probe itself, so there is one readout. The same seed gives the same numbers on the same machine.

The query is the same for every image, so neither keys nor values are formed: the query through the key matrix weighs
the tokens, and the value matrix reads their weighted mean. That is the same function in an eighth of the time.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.device import arithmetic
from benchmark.probes._base import Fitted, Labelled, Part, log_likelihood, select

VERSION = 3
KINDS = ("classification",)
TOKENS = True
ON_REQUEST = True
READOUTS = ("patches",)
ASKED = 512  # images answered at a time


@dataclass(frozen=True, kw_only=True)
class Settings:
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)  # peaks of the learning rate
    epochs: int = 20
    batch: int = 64
    weight_decay: float = 1e-3
    clip: float = 1.0  # of the gradient's norm


class Reader(nn.Module):
    """Parameters are those of LayerNorm, `nn.MultiheadAttention`, LayerNorm, MLP and a linear layer."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, width).normal_(std=0.02))
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """standardised tokens (B, patches, D) -> logits (B, classes)"""
        query = self.query[0]
        x = query + self.attention.out_proj(self._attend(query, tokens))
        return self.head(x + self.mlp(self.after(x)))

    def _attend(self, query: Tensor, tokens: Tensor) -> Tensor:
        """(1, D), (B, patches, D) -> heads' values (B, D). What a bias adds to the keys, softmax takes away again."""
        heads, width = self.attention.num_heads, self.attention.head_dim
        to_query, to_key, to_value = self.attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.attention.in_proj_bias.chunk(3)
        asked = F.linear(query, to_query, query_bias).view(heads, 1, width) / width**0.5
        asked = (asked @ to_key.unflatten(0, (heads, width))).squeeze(1) * self.before.weight
        weights = (tokens @ asked.T).softmax(dim=1)  # (B, patches, heads)
        pooled = weights.mT @ tokens * self.before.weight + self.before.bias
        return torch.einsum("bhd,hed->bhe", pooled, to_value.unflatten(0, (heads, width))).flatten(1) + value_bias


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    device = arithmetic.prepare()

    def answering(reader: Reader):
        @torch.inference_mode()
        def predict(images: Part) -> np.ndarray:
            x = images.tokens
            blocks = (x[i : i + ASKED] for i in range(0, len(x), ASKED))
            logits = [reader(_tokens(block, device)).double().cpu() for block in blocks]
            return torch.cat(logits).softmax(dim=1).numpy()

        return predict

    readers = [answering(reader) for reader in _trained(train, settings, classes, seed, device)]
    scored = [
        ({"rate": rate}, log_likelihood(predict(val), val.labels))
        for rate, predict in zip(settings.rates, readers, strict=True)
    ]
    best, grid = select(scored, "log likelihood")
    return Fitted(readers[best], grid)


def _trained(train: Labelled, settings: Settings, classes: int, seed: int, device: torch.device) -> list[Reader]:
    """A reader for each rate, from the same start and in the same order, so that tokens are read once for all."""
    batch = min(settings.batch, len(train.labels))
    steps = settings.epochs * (len(train.labels) // batch)
    readers, optimisers, paces = [], [], []
    for rate in settings.rates:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            readers.append(Reader(train.tokens.shape[-1], classes).to(device))
        weights = readers[-1].parameters()
        optimisers.append(torch.optim.AdamW(weights, lr=rate, weight_decay=settings.weight_decay, fused=True))
        paces.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[-1], steps))
    order, y = torch.Generator().manual_seed(seed), torch.from_numpy(np.asarray(train.labels)).to(device)
    for _ in range(settings.epochs):
        for index in torch.randperm(len(train.labels), generator=order).split(batch):
            if len(index) < batch:
                continue
            tokens, truth = _tokens(train.tokens[index.numpy()], device), y[index.to(device)]
            for reader, optimiser, pace in zip(readers, optimisers, paces, strict=True):
                loss = F.cross_entropy(reader(tokens), truth)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(reader.parameters(), settings.clip)
                optimiser.step()
                pace.step()
    return [reader.eval() for reader in readers]


def _tokens(x: np.ndarray, device: torch.device) -> Tensor:
    return standardised(torch.from_numpy(x).to(device).float())


def standardised(tokens: Tensor) -> Tensor:
    """Every token with mean 0 and variance 1: LayerNorm before its scale and shift, which are the reader's own."""
    return F.layer_norm(tokens, tokens.shape[-1:])
