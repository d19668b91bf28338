"""The committed site, byte for byte. `make verify`, which CI runs, makes the same files and names what differs."""

import shutil
from pathlib import Path

import pytest

from leaderboards.publish import releases, site
from tests.helpers.boards import tree

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_committed_site_is_what_the_published_store_gives(tmp_path):
    committed = ROOT / "leaderboards" / "site"
    if (committed / "releases").exists():
        shutil.copytree(committed / "releases", tmp_path / "releases")
    published = ROOT / "results" / "published"
    boards = site.load_public_boards(published)
    assert "smoke" not in {board.track for board in boards}
    site.build(published, tmp_path, boards=boards, releases=releases.list_versions(tmp_path))
    here, there = tree(tmp_path), tree(committed)
    assert sorted(here) == sorted(there), "run `make site` and commit leaderboards/site"
    assert [name for name in here if here[name] != there[name]] == [], "run `make site` and commit leaderboards/site"
