"""Two-layer probe: one hidden layer on standardised fp32 features.

For questions that are not linear in what an encoder knows, such as whether two structures agree: a linear probe reads
each level, and their product only where the encoder has made it. AdamW with a cosine to 0; every penalty of the grid is
trained to its end, and the one with the highest log-likelihood on the validation groups answers. The same seed gives
the same numbers on the same machine.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.device import arithmetic
from benchmark.probes._base import Fitted, Labelled, Part, constant, log_likelihood, moments, select

VERSION = 2
KINDS = ("classification",)
ON_REQUEST = True
READOUTS = ("patches",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    decays: tuple[float, ...] = (1e-2, 1e-1, 1.0)  # weight decay
    hidden: int = 256
    rate: float = 1e-3  # peak of the learning rate
    epochs: int = 40
    batch: int = 64


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    device = arithmetic.prepare()
    mean, deviation = moments(train.pooled)
    said = ~constant(mean, deviation, train.pooled.dtype)
    scale = np.where(said, 1 / np.where(said, deviation, 1.0), 0.0)

    def standardised(x: np.ndarray) -> Tensor:
        return torch.from_numpy(((x - mean) * scale).astype(np.float32)).to(device)

    def answering(model: nn.Module):
        @torch.inference_mode()
        def predict(images: Part) -> np.ndarray:
            return model(standardised(images.pooled)).double().softmax(dim=1).cpu().numpy()

        return predict

    x, y = standardised(train.pooled), torch.from_numpy(np.asarray(train.labels)).to(device)
    models = [answering(_trained(x, y, decay, settings, classes, seed)) for decay in settings.decays]
    scored = [
        ({"decay": decay}, log_likelihood(predict(val), val.labels))
        for decay, predict in zip(settings.decays, models, strict=True)
    ]
    best, grid = select(scored, "log likelihood")
    return Fitted(models[best], grid)


def _trained(x: Tensor, y: Tensor, decay: float, settings: Settings, classes: int, seed: int) -> nn.Module:
    """Features (N, D), standardised, and their classes (N,) -> a model of logits (N, classes)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.shape[1], settings.hidden), nn.GELU(), nn.Linear(settings.hidden, classes))
    model = model.to(x.device)
    batch = min(settings.batch, len(y))
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=decay)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * (len(y) // batch))
    order = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        for index in torch.randperm(len(y), generator=order).to(x.device).split(batch):
            if len(index) < batch:
                continue
            loss = F.cross_entropy(model(x[index]), y[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            pace.step()
    return model.eval()
