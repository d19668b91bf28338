"""A page as blocks of text, tables, figures and pictures, for one template."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboards.figures.figure import Figure
from leaderboards.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that lies within the site."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Block:
    title: str
    texts: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # (text, address within the site, or https)
    code: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    path: str  # within the site
    title: str
    label: str
    lead: str
    blocks: tuple[Block, ...]
