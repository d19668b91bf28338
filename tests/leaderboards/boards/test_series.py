"""Label-efficiency and robustness curves: every point against scikit-learn, on predictions made for it."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmark.storage import results, schema
from leaderboards.boards import series
from leaderboards.boards.selection import Method
from leaderboards.figures import board_figures, figure
from leaderboards.tables import alterations
from tests.helpers import wide

COLUMN = wide.column(0)
LINE = Method(
    name="MAE",
    recipe="MAE",
    twin=False,
    variant="v",
    twin_variant="t",
    runs={0: "r0", 1: "r1"},
    weights=("w", "w"),
    diverged=(),
)


def answers(rng, cell: str, signal: float, samples: int = 120, **condition) -> list[dict]:
    """Predictions of one condition: two images of each of 60 groups, labels alternating by group."""
    label = np.arange(samples) // 2 % 2
    risk = 1 / (1 + np.exp(-(signal * label + rng.normal(size=samples))))
    same = {"cell": cell, "repeat": 0, "fold": 0, "readout": "patches", "split_variant": "cut", "shots": None}
    same |= {"fraction": 1.0, "draw": 0, "corruption": "", "strength": 0} | condition
    return [
        same | {"sample": f"s{i:03d}", "group": f"g{i // 2:02d}", "label": int(label[i]), "scores": [1 - r, r]}
        for i, r in enumerate(risk)
    ]


def auroc(rows: list[dict]) -> float:
    return roc_auc_score([row["label"] for row in rows], [row["scores"][1] for row in rows])


def stored(root, probe: str, conditions: list[list[list[dict]]]) -> dict:
    """An index of a cell per seed, each with the rows of its conditions."""
    index = {}
    for seed, found in enumerate(conditions):
        folder, cell = root / f"{probe}-{seed}", f"c{seed}"
        rows = [row | {"cell": cell} for some in found for row in some]
        results.write(folder, {"predictions": schema.table("predictions", rows)})
        row = {"directory": str(folder), "cell": cell, "protocol": "cut"}
        index[f"r{seed}", COLUMN.task, COLUMN.data, probe, "patches"] = row
    return index


def test_a_share_of_labels_is_the_mean_of_its_draws_and_seeds(tmp_path):
    rng = np.random.default_rng(0)
    shares = [(0.1, 0.3, 3), (1.0, 1.5, 1)]
    seeds = [
        [
            answers(rng, "", signal, fraction=share, draw=draw)
            for share, signal, draws in shares
            for draw in range(draws)
        ]
        for _ in range(2)
    ]
    (found,) = series.read([LINE], [COLUMN], stored(tmp_path, "efficiency", seeds))
    assert (found.name, found.what, found.kind) == ("MAE", "share of the labelled groups", "labels")
    assert [x for x, _ in found.points] == [0.1, 1.0]
    for (share, *_), (_, point) in zip(shares, found.points, strict=True):
        expected = [
            np.mean([auroc(rows) for rows in conditions if rows[0]["fraction"] == share]) for conditions in seeds
        ]
        assert point.value == pytest.approx(np.mean(expected), abs=1e-12)
        assert point.low < point.value < point.high
        assert point.seeds == 2


def test_strength_zero_is_the_clean_images_of_the_same_samples(tmp_path):
    rng = np.random.default_rng(1)
    clean = answers(rng, "", 1.5)
    altered = [answers(rng, "", 0.5, samples=60, corruption="blur", strength=2)]
    altered += [answers(rng, "", 0.2, samples=60, corruption="gain", strength=s) for s in (1, 3)]
    index = stored(tmp_path, "robustness", [[clean, *altered]])
    blur, gain = series.read([LINE], [COLUMN], index)
    assert (blur.what, gain.what) == ("blur", "gain")
    assert [x for x, _ in gain.points] == [0, 1, 3]
    assert blur.points[0][1].value == pytest.approx(auroc(clean[:60]), abs=1e-12)
    assert blur.points[1][1].value == pytest.approx(auroc(altered[0]), abs=1e-12)
    assert gain.points[2][1].value == pytest.approx(auroc(altered[2]), abs=1e-12)


def test_curves_are_drawn_a_figure_for_each_nuisance_with_their_data(tmp_path):
    rng = np.random.default_rng(2)
    altered = [answers(rng, "", 0.5, corruption=name, strength=1) for name in ("blur", "gain")]
    index = stored(tmp_path, "robustness", [[answers(rng, "", 1.5), *altered]])
    board = wide.board(3, 1)
    board = type(board)(**vars(board) | {"series": series.read([LINE], [COLUMN], index)})
    assert board_figures.draw_levels(board, "labels") == board_figures.draw_levels(board, "scale") == ()
    drawn = board_figures.draw_levels(board, "nuisance")
    assert [one.name for one in drawn] == ["wide-under-blur", "wide-under-gain"]
    assert len(figure.as_csv(drawn[:1]).splitlines()) == 3
    assert "strength of blur" in drawn[0].svg


def test_scale_controls_say_what_is_left_and_are_no_nuisances(tmp_path):
    rng = np.random.default_rng(3)
    whole, shuffled = answers(rng, "", 1.5), answers(rng, "", 0.5, corruption="shuffled", strength=3)
    board = wide.board(3, 1)
    made = series.read([LINE], [COLUMN], stored(tmp_path, "scale", [[whole, shuffled]]))
    board = type(board)(**vars(board) | {"series": made})
    assert [one.kind for one in made] == ["scale"]
    assert alterations.tabulate_robustness(board) == ()
    (table,) = alterations.tabulate_scales(board)
    first, second = table.rows[0].cells[0].lines
    assert first.startswith(f"whole: {auroc(whole):.3f}")
    assert second.startswith("3: ")
    assert f"{auroc(shuffled):.3f}" in second
    assert [one.name for one in board_figures.draw_levels(board, "scale")] == ["wide-under-shuffled"]
