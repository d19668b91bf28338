"""A dataset's card as Croissant 1.0 (the JSON-LD of MLCommons for datasets), with its responsible-AI properties.

Written by mlcroissant (pip install 'pretext-bench[croissant]'), which also checks it, from the card and the task alone,
so the same on every machine. What the card does not tell (a year, an address) is left out, not invented.
"""

from __future__ import annotations

import json
import re
from datetime import datetime

from tasks import cards, host
from tasks.base import Download, Fixed, Task

CONFORMS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"  # what the format's users put where none is known
LICENCES = {  # how cards write a licence -> its address
    **{
        f"CC {name} {version}": f"https://creativecommons.org/licenses/{name.lower()}/{version}/"
        for name in ("BY-NC-ND", "BY-NC-SA", "BY-NC", "BY-SA", "BY")
        for version in ("4.0", "3.0")
    },
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
IMAGES = {  # suffixes that hold images; Python's own table of types differs between machines
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "tif": "image/tiff", "tiff": "image/tiff"},
    **{"bmp": "image/bmp", "mp4": "video/mp4", "h5": "application/x-hdf5", "mat": "application/x-matlab-data"},
}
TYPES = IMAGES | {
    **{"zip": "application/zip", "tar": "application/x-tar", "gz": "application/gzip", "tgz": "application/gzip"},
    **{"csv": "text/csv", "html": "text/html"},
}
UNKNOWN = "application/octet-stream"
FILES, PAGE = "image-files", "owners-page"  # ids


def dumps(task: Task) -> str:
    return json.dumps(describe(task), indent=2, ensure_ascii=False) + "\n"


def describe(task: Task) -> dict[str, object]:
    """The task's dataset as a JSON-LD document. Raises ValueError for a simulated one, which no file holds, and
    DataError where mlcroissant is not installed."""
    if task.synthetic:
        raise ValueError(f"{task.modality}/{task.name} is simulated: there is no dataset to describe")
    mlc = host.import_extra("mlcroissant", "croissant")
    card, access = cards.read(task), task.access
    parts = card.parts
    years = re.findall(r"\b(?:19|20)\d\d\b", access.citation.partition("doi:")[0])
    told = [f"{key}: {parts[key]}" for key in ("What", "Counts", "Split", "Group", "Published") if key in parts]
    authors = re.split(r", (?:and )?| and ", re.split(r"\.\s", access.citation, maxsplit=1)[0])
    collected = [parts[key].rstrip(".") + "." for key in ("What", "Who") if key in parts]
    document = mlc.Metadata(
        conforms_to=CONFORMS,
        name=task.name,
        description="\n".join([f"{card.title} {task.question}", *told]),
        license=[next((url for name, url in LICENCES.items() if access.licence.startswith(name)), access.licence)],
        url=_page(task),
        creators=[mlc.Person(name=name.strip()) for name in authors if name.strip() != "et al"],
        date_published=datetime(int(years[-1]), 1, 1) if years else None,
        cite_as=access.citation,
        keywords=["medical imaging", "image classification", task.modality, *task.classes],
        version=f"{task.version}.0.0",
        distribution=_files(mlc, task, " ".join(parts.values())),
        record_sets=_records(mlc, task, parts),
        data_collection=" ".join(collected) or None,
        data_biases=re.split(r";\s+|\.\s+(?=Copies:)", parts["Traps"]) if "Traps" in parts else None,
        data_limitations=[f"{key}: {parts[key]}" for key in ("Licence", "Group", "Split") if key in parts],
        data_use_cases=[task.question],
    )
    stated = {"alternateName": task.title} | ({"datePublished": years[-1]} if years else {})  # no invented day
    return document.to_json() | stated


def _page(task: Task) -> str | None:
    return task.access.home if task.access.home.startswith(("http://", "https://")) else None


def _id(download: Download) -> str:
    return f"{download.into}/{download.name}" if download.into else download.name


def _holds_images(task: Task) -> bool:
    """Whether what is downloaded are the images themselves, in no archive."""
    return bool(task.access.downloads) and not any(download.unpack for download in task.access.downloads)


def _files(mlc, task: Task, text: str) -> list:
    """What is downloaded, or the owners' page, and the image files in it by the suffixes that the card names."""
    access = task.access
    objects = []
    for download in access.downloads:
        checksum = download.checksum or access.checksums.get(download.name, "") or f"sha256:{NO_CHECKSUM}"
        algorithm, _, digest = checksum.partition(":")
        described = mlc.FileObject(
            id=_id(download),
            name=download.name,
            content_url=download.url,
            content_size=f"{download.bytes} B" if download.bytes else None,
            encoding_formats=[TYPES.get(download.name.rpartition(".")[2].lower(), UNKNOWN)],
            **{algorithm: digest},
        )
        objects.append(described)
    if not objects and _page(task):
        steps = " ".join(f"{number}. {step}." for number, step in enumerate(access.steps, 1))
        page = {"content_url": _page(task), "sha256": NO_CHECKSUM, "encoding_formats": [TYPES["html"]]}
        objects = [mlc.FileObject(id=PAGE, name=PAGE, description=f"By hand. {steps}", **page)]
    if _holds_images(task):
        return objects
    suffixes = [suffix for suffix in IMAGES if re.search(rf"\b{suffix}\b", text, re.IGNORECASE)]
    archives = [_id(download) for download in access.downloads if download.unpack]
    images = mlc.FileSet(
        id=FILES,
        name=FILES,
        contained_in=archives or [held.id for held in objects] or None,
        encoding_formats=sorted({IMAGES[suffix] for suffix in suffixes}) or [UNKNOWN],
        includes=[f"**/*.{suffix}" for suffix in suffixes] or ["**/*"],
    )
    return [*objects, images]


def _records(mlc, task: Task, parts: dict[str, str]) -> list:
    """Classes in label order, the published parts where there are some, and the images with what is known of each.

    How label, group and split follow from the files is the dataset's module; the card says it in words.
    """
    text = [mlc.DataType.TEXT]

    def listed(name: str, kind: str, values: tuple[str, ...]):
        key = mlc.Field(id=f"{name}/name", name=f"{name}/name", description=f"One of the {name}.", data_types=text)
        data = [{key.id: value} for value in values]
        return mlc.RecordSet(id=name, name=name, data_types=[kind], key=key.id, fields=[key], data=data)

    def field(name: str, description: str, **more: object):
        name = f"images/{name}"
        return mlc.Field(id=name, name=name, description=description, **({"data_types": text} | more))

    extract = mlc.Extract(file_property=mlc.FileProperty.content)
    place = {"file_object": _id(task.access.downloads[0])} if _holds_images(task) else {"file_set": FILES}
    source = mlc.Source(extract=extract, **place)
    records = [listed("classes", "sc:Enumeration", task.classes)]
    named = {}
    if isinstance(task.protocol, Fixed) and task.protocol.published:
        records.append(listed("splits", "cr:Split", tuple(task.counts) or ("train", "val", "test")))
        named = {"references": mlc.Source(field="splits/name")}
    image = [mlc.DataType.IMAGE_OBJECT]
    fields = [
        field("image", "The image, at its native size.", data_types=image, source=source),
        field("label", task.question, references=mlc.Source(field="classes/name")),
        field("group", f"{task.group_kind}: {parts.get('Group', '')}"),
        field("split", parts.get("Split", ""), **named),
        *(field(column, f"{column}, as the authors state it; never learnt from.") for column in task.columns),
    ]
    images = mlc.RecordSet(id="images", name="images", description="One record for each image.", fields=fields)
    return [*records, images]
