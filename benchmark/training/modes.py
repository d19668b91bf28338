"""How a training step is computed: operation by operation ("eager"), by torch.compile ("compiled"), or from CUDA graphs
("graphs"), which launch in one go what small encoders would spend their time launching.

Up to 64 pixels a step is never compiled, so that seeds from a GPU and from a processor are one row: graphs replay the
very kernels of the eager step. Above, on a GPU, compiled is the default.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.encoders import encoder
from benchmark.parts import augment
from benchmark.pretexts._base import Pretext
from benchmark.tracks import FP32_PIXELS

ASKED = {"0": "eager", "1": "compiled", "graphs": "graphs"}  # value of COMPILE= -> mode


def choose(asked: str | None, pixels: int, gpu: bool, micro: int | None = None) -> str:
    """The mode of a run at that many pixels, on a GPU or not; asked: None for the default. Raises ValueError for a mode
    that this run cannot have."""
    small = pixels <= FP32_PIXELS
    if asked is None:
        return "compiled" if gpu and not small else "eager"
    if asked not in ASKED:
        raise ValueError(f"COMPILE={asked}: known are {', '.join(ASKED)}")
    if asked == "1" and small:
        raise ValueError(
            f"COMPILE=1: tracks of {FP32_PIXELS} pixels and fewer train without torch.compile on every device, so that "
            "their seeds are one row; leave COMPILE out, or try COMPILE=graphs on a GPU"
        )
    if asked == "graphs" and not gpu:
        raise ValueError("COMPILE=graphs: CUDA graphs need a GPU; leave COMPILE out")
    if asked == "graphs" and micro is not None:
        raise ValueError(
            "COMPILE=graphs: a step cut by MICRO runs its graphs several times over; leave one of them out"
        )
    return ASKED[asked]


def compiles(mode: str, pixels: int) -> bool:
    """Whether torch.compile writes kernels of its own for it; graphs of eager kernels are none."""
    return mode != "eager" and pixels > FP32_PIXELS


def accelerate(model: Pretext, mode: str) -> None:
    """Put the mode in force, in place: on the changes of crops, encoders, and the nets behind them. The objective
    around them knows the progress of training, and would be compiled anew at every step."""
    if mode == "eager":
        return
    if mode == "compiled":
        compiler = torch.compile
        for name, crops in {n: v for n, v in vars(model).items() if isinstance(v, augment.Crops)}.items():
            setattr(model, name, replace(crops, fuse=augment.fused))
    else:
        compiled = compiles(mode, model.encoder.spec.pixels)
        compiler = partial(torch.compile, **({"mode": "reduce-overhead"} if compiled else {"backend": "cudagraphs"}))
        model.views = beginning(model.views)
    for module in model.modules():
        if isinstance(module, encoder.Encoder):
            module.run = compiler(module.run)
        elif isinstance(module, nn.Sequential):
            module.forward = compiler(module.forward)


def beginning(views: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """`views` as the begin of a step: what graphs returned in the step before may be overwritten from then on."""

    def begun(images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        return views(images, drawn)

    return begun
