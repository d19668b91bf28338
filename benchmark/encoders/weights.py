"""Weights of a safetensors file into a module, strictly: whatever does not fit is named, and nothing is skipped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tasks.base import DataError

EXAMPLES = 3  # names that an error shows
COUNTER = "num_batches_tracked"  # of a batch norm: older files lack it, and no frozen encoder reads it


@dataclass(frozen=True)
class Misfit:
    """The names that keep tensors from being the weights of a module."""

    missing: tuple[str, ...]  # of the module, not in the file
    unexpected: tuple[str, ...]  # in the file, not of the module
    different: tuple[str, ...]  # in both, of another shape or kind, which follow the name

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.different)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape or kind": self.different}
        return "; ".join(f"{len(names)} {kind}, {examples(names)}" for kind, names in kinds.items() if names)


def examples(names: Sequence[str]) -> str:
    """The first names of many: "such as a, b, c"."""
    return f"such as {', '.join(names[:EXAMPLES])}" if len(names) > EXAMPLES else ", ".join(names)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises DataError for any other file, and for one without tensors."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); name weights that safetensors wrote"
        ) from error
    if not tensors:
        raise DataError(f"{path}: holds no tensor")
    return tensors


def compare(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Misfit:
    """What keeps tensors from being those of a module; own: its `state_dict`."""
    return Misfit(
        missing=tuple(name for name in own if name not in tensors and not name.endswith(COUNTER)),
        unexpected=tuple(name for name in tensors if name not in own),
        different=tuple(
            f"{name} ({change(tensors[name], value)})"
            for name, value in own.items()
            if name in tensors and not _alike(value, tensors[name])
        ),
    )


def load(module: nn.Module, path: Path, names: Collection[str] | None = None) -> None:
    """Fill a module, or the tensors of those names, from a file that holds just these. Raises DataError otherwise."""
    own, tensors = module.state_dict(), read(path)
    misfit = compare({name: own[name] for name in (own if names is None else names)}, tensors)
    if misfit.count:
        raise DataError(f"{path}: its {len(tensors)} tensors do not fit: {misfit}")
    module.load_state_dict(own | tensors)


def _alike(own: Tensor, other: Tensor) -> bool:
    """Whether a tensor can be copied without loss of meaning: another precision is, integers for reals are not."""
    return own.shape == other.shape and own.is_floating_point() == other.is_floating_point()


def change(before: Tensor, after: Tensor) -> str:
    return f"{kind(before)} in the file, {kind(after)} in the model"


def shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a single number"


def kind(value: Tensor) -> str:
    return f"{shape(value)} of {str(value.dtype).removeprefix('torch.')}"
