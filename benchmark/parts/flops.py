"""Forward FLOPs of the parts every pretext is made of: 2 per multiply-accumulate; softmax, norms, GELU, rotations and
the optimiser are not counted. Equal to torch's `FlopCounterMode` with math attention (tests hold that). A training step
counts every trained part three times (forward, and twice that for backward) and a teacher once. No torch."""

from benchmark.recipe import EncoderSpec


def blocks(tokens: float, width: int, depth: int) -> float:
    """A stack of pre-norm transformer blocks, MLP ratio 4: qkv 6, projection 2, MLP 16, attention 4·tokens."""
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)


def linear(tokens: float, width_in: int, width_out: int) -> float:
    return 2 * tokens * width_in * width_out


def patch_embed(patches: int, encoder: EncoderSpec) -> float:
    return linear(patches, 3 * encoder.patch**2, encoder.width)


def encode(encoder: EncoderSpec, patches: int | None = None, tokens: float | None = None) -> float:
    """The encoder on an image of `patches` patches (default: the full grid). tokens: what enters the blocks, cls and
    registers included (default: all)."""
    patches = encoder.grid**2 if patches is None else patches
    tokens = patches + encoder.prefix if tokens is None else tokens
    return patch_embed(patches, encoder) + blocks(tokens, encoder.width, encoder.depth)
