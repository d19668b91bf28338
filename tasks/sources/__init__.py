"""Unlabelled images to pretrain on, named `kind:location`, such as `folder:/data/tiles`; a kind is a file here.

A relative location starts at DATA. The location itself never leaves this machine: a source is called by its kind and
the last part of its location, and its images by their paths from there on.
"""

import importlib
import pkgutil
import re
from functools import partial
from pathlib import Path
from types import ModuleType

import tasks
from tasks.base import Access, DataError, NoData, Source
from tasks.reading import folders

LOCAL = Access(home="files of this machine", licence="as their owner states", citation="")


def kinds() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def open(spec: str, modality: str) -> Source:
    """The source `kind:location`. Raises ValueError for an unknown kind or modality, DataError for no location.

    Whether anything is at the location is found out by `scan`, which raises NoData or DataError.
    """
    kind, _, location = spec.partition(":")
    if kind not in kinds():
        raise tasks.unknown("kind of source", kind, kinds())
    if modality not in tasks.modalities():
        raise tasks.unknown("modality", modality, tasks.modalities())
    if not location:
        raise DataError(f"{spec!r} has no location; write kind:location, such as {kind}:/data/images")
    module = importlib.import_module(f"tasks.sources.{kind}")
    if modality != getattr(module, "MODALITY", modality):
        raise DataError(
            f"{spec!r} is read as {module.MODALITY}, not {modality}; use another kind: {', '.join(kinds())}"
        )
    if hasattr(module, "open_source"):
        return module.open_source(location, modality)
    return source(kind, location, modality, module)


def source(
    kind: str, location: str, modality: str, module: ModuleType, *, access: Access = LOCAL, version: int = 1
) -> Source:
    """The Source of a kind by its module: GROUP_KIND, `scan`, `read` and perhaps `left_out`, which take the location as
    a keyword. It is called by the last part of its location."""
    last = folders.printable(Path(location).name)
    name = f"{kind}-{re.sub(r'[^a-z0-9_]+', '-', last.lower()).strip('-') or 'data'}"
    return Source(
        name=name,
        modality=modality,
        title=f"{last} ({kind})",
        group_kind=module.GROUP_KIND,
        version=version,
        access=access,
        scan=partial(module.scan, location=location),
        read=partial(module.read, location=location),
        left_out=partial(module.left_out, location=location) if hasattr(module, "left_out") else None,
        policy="crop" if modality == "histo" else "pad",
        images=f"{kind} {name} {version}",
        family=name,
    )


def top(data: Path, location: str) -> Path:
    """The folder of a location. Raises NoData if it is not there."""
    folder = data / Path(location).expanduser()
    if not folders.is_folder(folder):
        raise NoData(f"{folder}: no such folder; give CORPUS a folder that is there (a relative one starts at {data})")
    return folder


def of_slide(stem: str) -> str:
    """The group of a slide: its patient, where its name begins like a TCGA barcode, else the slide itself."""
    barcode = re.match(r"TCGA-\w{2}-\w{4}(?=[-.]|$)", stem)
    return barcode[0] if barcode else stem
