"""What a pretext sees, for its page: sheets of a simulated image, committed, as pages are made without torch, and the
command that draws each anew.

    static/views/<modality>-<pretext>.webp
"""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from leaderboards.pages.page import Block, Picture

SHEETS = Path(__file__).parents[1] / "static" / "views"
MODALITIES = ("ultrasound", "histo")
IMAGE = "phantom_local/train/p00000/0"  # the same place in both modalities


def command_words(modality: str, pretext: str) -> list[str]:
    """Words of the command that draws a sheet, but for where it is written."""
    return [
        *("python", "-m", "benchmark", "views", IMAGE),
        *("--modality", modality, "--pretext", pretext, "--draws", "2"),
    ]


def find_sheet(modality: str, pretext: str) -> Path:
    return SHEETS / f"{modality}-{pretext}.webp"


def describe_views(pretext: str) -> tuple[Block, ...]:
    """What a pretext sees in each modality; none for one without sheets."""
    there = [one for one in MODALITIES if pretext.isidentifier() and find_sheet(one, pretext).is_file()]
    pictures = tuple(_picture(modality, pretext) for modality in there)
    return (Block(title="What it sees", pictures=pictures),) if pictures else ()


def _picture(modality: str, pretext: str) -> Picture:
    path = find_sheet(modality, pretext)
    with Image.open(path) as opened:
        told = opened.getexif()[ExifTags.Base.ImageDescription]
    return Picture(
        source=f"static/views/{path.name}",
        alt=f"A simulated {modality} image as stored, and what {told.partition(':')[0]} sees of it in two epochs.",
        caption=f"{told}. A simulated {modality} phantom, not clinical evidence, as a training with the recommended "
        f"settings of the laptop track sees it in its first two epochs: `{' '.join(command_words(modality, pretext))}`",
    )
