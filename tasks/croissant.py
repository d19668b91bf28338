"""A dataset's card as Croissant 1.0 (the JSON-LD of MLCommons for datasets), with its responsible-AI properties.

From the card and the task alone, so the same on every machine. The format asks for description, license, name, url,
creator and datePublished; what the card does not tell (a year, an address) is left out, not invented.
"""

from __future__ import annotations

import json
import re

from tasks import cards
from tasks.base import Download, Fixed, Task

CONFORMS = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
NO_CHECKSUM = "https://github.com/mlcommons/croissant/issues/80"  # what the format's users put where none is known
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
LICENCES = {  # how cards write a licence -> its address
    "CC BY-NC-ND 4.0": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
    "CC BY-NC-SA 4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY 3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
ARCHIVES = {"zip": "application/zip", "tar": "application/x-tar", "gz": "application/gzip", "tgz": "application/gzip"}
TYPES = ARCHIVES | {  # by suffix; Python's own table differs between machines
    "csv": "text/csv",
    "json": "application/json",
    "h5": "application/x-hdf5",
    "mat": "application/x-matlab-data",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "mp4": "video/mp4",
}
IMAGES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "mp4", "h5", "mat")  # suffixes that hold images
FILES, PAGE = "image-files", "owners-page"  # ids


def dumps(task: Task) -> str:
    return json.dumps(describe(task), indent=2, ensure_ascii=False) + "\n"


def describe(task: Task) -> dict[str, object]:
    """The task's dataset as a JSON-LD document. Raises ValueError for a simulated one, which no file holds."""
    if task.synthetic:
        raise ValueError(f"{task.modality}/{task.name} is simulated: there is no dataset to describe")
    card = cards.read(task)
    access, parts = task.access, card.parts
    years = re.findall(r"\b(?:19|20)\d\d\b", access.citation.partition("doi:")[0])
    told = ("What", "Counts", "Split", "Group", "Published")
    description = [f"{card.title} {task.question}", *(f"{key}: {parts[key]}" for key in told if key in parts)]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS),
        "name": task.name,
        "alternateName": task.title,
        "description": "\n".join(description),
        "license": _licence(access.licence),
        "url": _address(access.home),
        "creator": _creators(access.citation),
        "datePublished": years[-1] if years else None,
        "citeAs": access.citation,
        "keywords": ["medical imaging", "image classification", task.modality, *task.classes],
        "version": f"{task.version}.0.0",
        "distribution": _distribution(task, " ".join(parts.values())),
        "recordSet": _records(task, parts),
        "rai:dataCollection": _joined(parts.get("What"), parts.get("Who")),
        "rai:dataBiases": re.split(r";\s+|\.\s+(?=Copies:)", parts["Traps"]) if "Traps" in parts else None,
        "rai:dataLimitations": [f"{key}: {parts[key]}" for key in ("Licence", "Group", "Split") if key in parts],
        "rai:dataUseCases": [task.question],
    }
    return {key: value for key, value in document.items() if value}


def _licence(text: str) -> str:
    """The address of a licence that the text begins with, else the text."""
    known = (address for name, address in LICENCES.items() if text.startswith(name))
    return next(known, text)


def _address(home: str) -> str | None:
    return home if home.startswith(("http://", "https://")) else None


def _creators(citation: str) -> list[dict[str, str]]:
    """The authors as a citation begins with them: names between commas, up to the first full stop."""
    names = re.split(r", (?:and )?| and ", re.split(r"\.\s", citation, maxsplit=1)[0])
    return [{"@type": "sc:Person", "name": name.strip()} for name in names if name.strip() != "et al"]


def _joined(*texts: str | None) -> str:
    return " ".join(text.rstrip(".") + "." for text in texts if text)


def _type(name: str) -> str:
    return TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def _distribution(task: Task, text: str) -> list[dict[str, object]]:
    downloads = task.access.downloads
    objects = [_object(task, download) for download in downloads]
    page = _address(task.access.home)
    if not downloads and page:
        steps = " ".join(f"{n}. {step}." for n, step in enumerate(task.access.steps, 1))
        objects = [
            {
                "@type": "cr:FileObject",
                "@id": PAGE,
                "name": PAGE,
                "description": f"By hand. {steps}",
                "contentUrl": page,
                "encodingFormat": "text/html",
                "sha256": NO_CHECKSUM,
            }
        ]
    archives = [_id(download) for download in downloads if download.unpack]
    if downloads and not archives:
        return objects
    suffixes = [suffix for suffix in IMAGES if re.search(rf"\b{suffix}\b", text, re.IGNORECASE)]
    images = {
        "@type": "cr:FileSet",
        "@id": FILES,
        "name": FILES,
        "containedIn": [{"@id": name} for name in archives or [held["@id"] for held in objects]],
        "encodingFormat": sorted({TYPES[suffix] for suffix in suffixes}) or ["application/octet-stream"],
        "includes": [f"**/*.{suffix}" for suffix in suffixes] or ["**/*"],
    }
    return [*objects, {key: value for key, value in images.items() if value}]  # in no file, where no page holds it


def _id(download: Download) -> str:
    return f"{download.into}/{download.name}" if download.into else download.name


def _object(task: Task, download: Download) -> dict[str, object]:
    checksum = download.checksum or task.access.checksums.get(download.name, "") or f"sha256:{NO_CHECKSUM}"
    algorithm, _, digest = checksum.partition(":")
    described = {
        "@type": "cr:FileObject",
        "@id": _id(download),
        "name": download.name,
        "contentUrl": download.url,
        "contentSize": f"{download.bytes} B" if download.bytes else None,
        "encodingFormat": _type(download.name),
        algorithm: digest,
    }
    return {key: value for key, value in described.items() if value}


def _records(task: Task, parts: dict[str, str]) -> list[dict[str, object]]:
    """Classes in label order, the published parts where there are some, and the images with what is known of each.

    How label, group and split follow from the files is the dataset's module; the card says it in words.
    """
    downloads = task.access.downloads
    if downloads and not any(download.unpack for download in downloads):
        source = {"fileObject": {"@id": _id(downloads[0])}, "extract": {"fileProperty": "content"}}
    else:
        source = {"fileSet": {"@id": FILES}, "extract": {"fileProperty": "content"}}
    published = isinstance(task.protocol, Fixed) and task.protocol.published
    image = _field("images/image", "sc:ImageObject", "The image, at its native size.", source=source)
    label = _field("images/label", "sc:Text", task.question, references={"field": {"@id": "classes/name"}})
    group = _field("images/group", "sc:Text", f"{task.group_kind}: {parts.get('Group', '')}")
    split = _field("images/split", "sc:Text", parts.get("Split", ""))
    columns = [
        _field(f"images/{column}", "sc:Text", f"{column}, as the authors state it; never learnt from.")
        for column in task.columns
    ]
    records = [_names("classes", "sc:Enumeration", task.classes)]
    if published:
        split["references"] = {"field": {"@id": "splits/name"}}
        records.append(_names("splits", "cr:Split", tuple(task.counts) or ("train", "val", "test")))
    return [
        *records,
        {
            "@type": "cr:RecordSet",
            "@id": "images",
            "name": "images",
            "description": "One record for each image.",
            "field": [image, label, group, split, *columns],
        },
    ]


def _names(name: str, kind: str, values: tuple[str, ...]) -> dict[str, object]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": f"{name}/name"},
        "field": [_field(f"{name}/name", "sc:Text", f"One of the {name}.")],
        "data": [{f"{name}/name": value} for value in values],
    }


def _field(name: str, kind: str, description: str, **more: object) -> dict[str, object]:
    return {"@type": "cr:Field", "@id": name, "name": name, "description": description, "dataType": kind, **more}
