"""Is it learning, or has it collapsed? Figures from pooled features (B, D) of a batch, and plain-sentence alarms."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def figures(pooled: Tensor) -> dict[str, float]:
    """RankMe (Garrido et al. arXiv 2210.02885, eq. 1), per-dimension deviation over images, mean pairwise cosine."""
    x = pooled.float()
    spectrum = torch.linalg.svdvals(x)
    share = spectrum / spectrum.sum().clamp(min=1e-12) + 1e-7
    unit = F.normalize(x, dim=1)
    count = len(x)
    cosine = (unit.sum(0).square().sum() - count) / (count * (count - 1)) if count > 1 else torch.ones(())
    return {
        "rankme": float(torch.exp(-(share * share.log()).sum())),
        "feature deviation": float(x.std(dim=0).mean()) if count > 1 else 0.0,
        "pairwise cosine": float(cosine),
    }


def alarms(figures: dict[str, float], parts: dict[str, float], progress: float) -> list[str]:
    """Sentences for a person, empty while all is well. Judged after the first fifth of training."""
    if progress < 0.2:
        return []
    found = []
    if figures["feature deviation"] < 1e-4 or figures["pairwise cosine"] > 0.9999:
        found.append(
            "all images have the same features: collapse; try a higher teacher momentum or a lower learning rate"
        )
    trivial = parts.get("trivial loss")
    if trivial is not None and parts["loss"] > 0.98 * trivial:
        found.append(
            f"loss {parts['loss']:.3f} is at the trivial level {trivial:.3f}: nothing learnt yet; "
            "train longer or raise the learning rate"
        )
    if parts.get("teacher entropy / ln K", 0.0) > 0.98:
        found.append("teacher entropy is at ln K: uniform collapse; lower the teacher temperature or the learning rate")
    return found
