"""What the training of a pretext holds in memory, as numbers of values: `memory(settings, encoder)` of its file.

No torch. `python -m benchmark.lab.speed memory` holds the prediction against what runs take.
"""

from typing import NamedTuple

from benchmark.recipe import EncoderSpec


class Held(NamedTuple):
    trained: float  # parameters
    frozen: float  # a teacher's parameters
    blocks: float  # tokens x width x depth of an image, over all transformers that backward goes through
    rows: float  # values of an image in the heads


def trunk(encoder: EncoderSpec) -> int:
    """Parameters of its blocks and patch embedding."""
    return 12 * encoder.depth * encoder.width**2 + 3 * encoder.patch**2 * encoder.width
