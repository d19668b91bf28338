"""What pages say of a board's shortcomings, and how LaTeX names its groups and metrics."""

from dataclasses import replace

import pytest

from leaderboards.boards.board import Baseline, Locality
from leaderboards.export import latex
from leaderboards.pages import board_page
from leaderboards.stats.intervals import Estimate
from leaderboards.tables import gains
from tasks.phantoms import scenes
from tests.helpers import wide


def phantoms(localities=(0.9, 0.5, 0.1), histogram=0.6, pixels=64):
    """A board of the three phantom tasks with a twin at .6 to .8 and one baseline."""
    made = wide.board(3, 3)
    names = ("local", "regional", "global")
    columns = tuple(
        replace(column, task=f"phantom_{name}", title=name, protocol="published", version=scenes.VERSION)
        for column, name in zip(made.columns, names, strict=True)
    )
    score = Estimate(**vars(made.sections[0].rows[0].entries[0].gain) | {"value": histogram})
    rows = tuple(
        replace(row, entries=tuple(replace(e, score=replace(score, value=0.7)) for e in row.entries), twin=row.twin)
        for row in made.sections[0].rows
    )
    return replace(
        made,
        pixels=(pixels,),
        columns=columns,
        sections=(replace(made.sections[0], rows=rows),),
        baselines=(Baseline(name="Colour histogram", scores=(score,) * 3),),
        localities=tuple(Locality(value=x, low=None, high=None) for x in localities),
    )


def test_a_phantom_board_says_where_it_lies_outside_the_bounds_of_its_calibration():
    assert board_page.calibration(phantoms()) == ()
    said = board_page.calibration(phantoms(histogram=0.725))
    assert len(said) == 3
    assert said[0].startswith("local: Colour histogram 0.725 lies outside the bounds of calibration, 0.000 to 0.700")
    assert board_page.calibration(phantoms(histogram=0.725, pixels=32)) == (), "bounds are about 64 pixels"
    older = phantoms(histogram=0.725)
    older = replace(older, columns=tuple(replace(one, version=scenes.VERSION - 1) for one in older.columns))
    (said,) = board_page.calibration(older)
    assert f"images of version {scenes.VERSION - 1}: the bounds" in said
    assert f"of version {scenes.VERSION}, and are not held against them" in said


@pytest.mark.parametrize(("localities", "contradicted"), [((0.9, 0.5, 0.1), False), ((0.7, 0.89, 0.94), True)])
def test_a_measured_locality_that_does_not_fall_from_local_to_global_is_said(localities, contradicted):
    said = board_page.names_contradicted(phantoms(localities))
    assert bool(said) == contradicted
    if contradicted:
        assert "local 0.70, regional 0.89, global 0.94" in said


def test_a_simulators_own_split_is_not_called_published():
    column = phantoms().columns[0]
    assert gains.split_in_words(column) == "the simulator's own"
    assert gains.split_in_words(replace(column, synthetic=False)) == "published"


def test_latex_writes_group_kinds_and_metrics_as_people_do():
    made = wide.board(3, 1)
    column = replace(
        made.columns[0], groups=1200, group_kind="near-duplicate cluster (no patient ids exist)", metric="macro_f1"
    )
    text = latex.latex(replace(made, columns=(column,)))
    assert "1,200 near-duplicate clusters (no patient ids exist)" in text
    assert "Task number 0, macro F1" in text
