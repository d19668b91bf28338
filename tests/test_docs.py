"""README and docs say of the boards what the published boards hold; every link leads somewhere."""

import csv
import html
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "leaderboards" / "site"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
REAL = (ROOT / "docs" / "real.md").read_text(encoding="utf-8")
COLUMNS = {"BUS-BRA": "bus_bra", "AUL": "aul", "BUSI": "busi", "BrEaST": "breast_usg", "POCUS": "pocus", "IDC": "idc"}


def rows() -> dict[tuple[str, str], dict[str, str]]:
    """(encoder, task) -> the row of a real board's headline table."""
    found = {}
    for modality in ("ultrasound", "histo"):
        with (SITE / f"{modality}-local-laptop.csv").open(encoding="utf-8", newline="") as file:
            found |= {(row["encoder"], row["task"]): row for row in csv.DictReader(file)}
    return found


def short(value: str) -> str:
    return f"{float(value):.3f}".removeprefix("0")


def test_the_readme_says_what_the_boards_say():
    board = rows()
    assert board["MAE", "bus_bra"]["verdict"] == "above twin"
    assert 0.7 < float(board["MAE", "bus_bra"]["share"]) < 0.8
    assert board["MAE", "bus_bra"]["groups"] == "532"
    for other in ("I-JEPA", "DINOv3", "efficientnet_lite0:imagenet (outside)"):
        assert board[other, "bus_bra"]["verdict"] == "not shown above twin"
    for encoder in ("MAE", "I-JEPA", "DINOv3"):
        for task in ("aul", "breast_usg"):
            assert board[encoder, task]["verdict"].startswith("labels do not teach this encoder")


def test_the_page_of_real_images_has_the_scores_of_the_boards():
    board = rows()
    titles, cells = (
        [cell.strip() for cell in line.strip("|\n").split("|")][1:]
        for line in REAL.splitlines()
        if line.startswith(("| | BUS-BRA", "| linear"))
    )
    for title, cell in zip(titles, cells, strict=True):
        task = COLUMNS[title]
        learnt = [short(board[encoder, task]["score"]) for encoder in ("MAE", "I-JEPA", "DINOv3")]
        assert cell == f"{' / '.join(learnt)}, {short(board['Untrained (MAE, DINOv3)', task]['score'])}", title


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


def test_every_page_and_table_is_reached_from_the_index():
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in docs.glob("*.md"))
    assert [page.name for page in docs.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []
    assert [
        table.name for table in (docs / "tables").iterdir() if table.stem not in text and "tables/)" not in text
    ] == []


def test_the_answer_says_what_the_front_page_says():
    page = html.unescape((SITE / "index.html").read_text(encoding="utf-8"))
    lead = page[page.index('class="lead"') :]
    said = re.findall(r"<li>(.*?)</li>", lead[: lead.index("</ul>")])
    text = (ROOT / "docs" / "answer.md").read_text(encoding="utf-8")
    found = text[text.index("## Found") : text.index("![")]
    assert [line.removeprefix("- ") for line in found.splitlines() if line.startswith("- ")] == said
    measured = re.findall(r"([\w-]+) (\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\])", text[text.index("Real signal,") :])
    assert {name for name, _ in measured} == {"IDC", "AUL", "BUSI", "BUS-BRA"}
    for name, figure in measured:
        task = f"{'histo' if name == 'IDC' else 'ultrasound'}-{name.lower()}"
        assert figure in (SITE / "tasks" / f"{task}.html").read_text(encoding="utf-8"), name
