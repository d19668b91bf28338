"""The dense probe: masks follow their images, tokens that know the mask find it, and a board shows its Dice."""

import numpy as np
import pytest
from PIL import Image

from benchmark import metrics, plan
from benchmark.probes import dense
from benchmark.probes._base import Rows
from benchmark.probing import fitting as probing
from benchmark.recipe import twin
from benchmark.study import Study, TaskData
from leaderboards.audit.verify import verify
from leaderboards.boards.aggregate import boards
from leaderboards.tables import gains
from tasks import get
from tasks.base import DataError
from tasks.reading import squares
from tests.benchmark.probing import test_probing
from tests.helpers.boards import TASKS, add_cell, add_run, images, recipe
from tests.helpers.parts import Arrays, given
from tests.layouts import bus_bra, busi, gbcu, tn5000

GRID, PATCH, WIDTH = 6, 4, 8


def seen(count: int, seed: int, signal: float = 6.0) -> Arrays:
    """Masks made of whole patches, and tokens of which the third value tells whether its patch is inside."""
    rng = np.random.default_rng(seed)
    inside = rng.random((count, GRID, GRID)) < 0.3
    inside[: count // 6] = False  # images without the structure
    tokens = rng.normal(size=(count, GRID * GRID, WIDTH))
    tokens[..., 2] += signal * inside.reshape(count, -1)
    masks = inside.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    return Arrays(tokens.astype(np.float16), masks, np.array([f"{seed}-{i}" for i in range(count)]))


def test_tokens_that_know_the_mask_find_it_and_others_do_not():
    settings = dense.Settings()
    parts = seen(60, 0), seen(20, 1)
    fitted, test = dense.fit(*given(*parts), settings, 2, seed=0), seen(20, 2)
    predicted = fitted.predict(*given(test))
    assert predicted.shape == test.y.shape
    found = metrics.areas(predicted, test.y)
    assert metrics.dice(*found.T) > 0.75  # enlarging blurs the edges of a mask of single patches
    centres = np.ix_(range(20), range(1, GRID * PATCH, PATCH), range(1, GRID * PATCH, PATCH))
    assert (predicted[centres] == test.y[centres]).mean() > 0.95
    blind = [part._replace(x=np.random.default_rng(9).permutation(part.x.reshape(-1, WIDTH)).reshape(part.x.shape))
             for part in (*parts, test)]  # fmt: skip
    lost = metrics.areas(dense.fit(*given(*blind[:2]), settings, 2, seed=0).predict(*given(blind[2])), test.y)
    whole = metrics.areas(np.ones_like(test.y), test.y)
    assert metrics.dice(*lost.T) < metrics.dice(*whole.T) + 0.05 < metrics.dice(*found.T)


def test_penalty_and_threshold_are_those_of_the_validation_images():
    settings = dense.Settings(c=(1e-6, 1e-2), thresholds=(0.05, 0.4, 0.95))
    train, val = seen(40, 0, 2.0), seen(15, 1, 2.0)
    fitted = dense.fit(*given(train, val), settings, 2, seed=0)
    assert len(fitted.grid) == 6
    (chosen,) = [trial for trial in fitted.grid if trial.selected]
    assert chosen.score == max(trial.score for trial in fitted.grid)
    assert metrics.dice(*metrics.areas(fitted.predict(*given(val)), val.y).T) == pytest.approx(chosen.score)


def test_a_patch_is_covered_by_the_share_of_its_pixels():
    masks = np.random.default_rng(0).random((3, 8, 8)) > 0.5
    expected = [[mask[i : i + 4, j : j + 4].mean() for i in (0, 4) for j in (0, 4)] for mask in masks]
    np.testing.assert_allclose(dense.covered(masks, 2), expected, atol=1e-7)


def test_masks_without_a_patch_inside_are_refused():
    train = seen(10, 0)
    with pytest.raises(ValueError, match="0% of 360 patches lie in the structure"):
        dense.fit(*given(train._replace(y=np.zeros_like(train.y)), seen(5, 1)), dense.Settings(), 2, seed=0)


@pytest.mark.parametrize("policy", ["pad", "crop", "sector"])
def test_a_mask_goes_where_its_image_goes(tmp_path, policy):
    shown = np.zeros((90, 140), bool)
    shown[30:60, 50:95] = True
    image = np.where(shown[..., None], 255, np.where(np.ones((90, 140, 1)), 60, 0)).repeat(3, axis=2).astype(np.uint8)
    image[:, :12] = 0  # outside of the scanned area
    task = test_probing.TASK

    class Source:
        read, policy = staticmethod(lambda data, sample, pixels: image), ""

    Source.policy = policy
    square = squares.to_square(image, 64, policy)[..., 0]
    found = squares.mask_to_square(Source, tmp_path, task.scan(tmp_path)[0], lambda *_: shown, 64)
    assert (found == (square > 157)).mean() > 0.99
    with pytest.raises(DataError, match="a mask of 3 x 2 pixels for an image of 140 x 90"):
        squares.mask_to_square(Source, tmp_path, task.scan(tmp_path)[0], lambda *_: np.zeros((2, 3), bool), 64)


def test_masks_of_busi_are_the_union_of_an_image_s_outlines(tmp_path):
    busi.write(tmp_path)
    task = get("ultrasound", "busi")
    (sample,) = [one for one in task.scan(tmp_path) if one.id.endswith("benign (5).png")]
    folder = tmp_path / "Dataset_BUSI_with_GT" / "benign"
    size = Image.open(folder / "benign (5).png").size
    for name, box in (("_mask", (2, 3, 6, 8)), ("_mask_1", (10, 9, 14, 12))):
        outline = np.zeros(size[::-1], np.uint8)
        outline[box[1] : box[3], box[0] : box[2]] = 255
        Image.fromarray(outline).save(folder / f"benign (5){name}.png")
    shown = task.mask(tmp_path, sample, 64)
    assert shown.sum() == 4 * 5 + 4 * 3
    assert shown[3:8, 2:6].all()
    assert not task.mask(tmp_path, task.scan(tmp_path)[-1], 64).any()  # a normal breast
    for path in folder.glob("benign (5)_mask*"):
        path.unlink()
    with pytest.raises(DataError, match=r"benign \(5\)_mask.png: not there"):
        task.mask(tmp_path, sample, 64)


def test_masks_of_the_other_datasets(tmp_path):
    bus_bra.write(tmp_path)
    task = get("ultrasound", "bus_bra")
    sample = task.scan(tmp_path)[0]
    path = tmp_path / "BUSBRA" / "Masks" / sample.id.rpartition("/")[2].replace("bus_", "mask_")
    outline = np.zeros(Image.open(path).size[::-1], np.uint8)
    outline[4:9, 5:7] = 255
    Image.fromarray(outline).save(path)
    assert task.mask(tmp_path, sample, 64).sum() == 10

    tn5000.write(tmp_path)
    task = get("ultrasound", "tn5000")
    sample = task.scan(tmp_path)[0]
    shown = task.mask(tmp_path, sample, 64)
    assert shown.shape == task.read(tmp_path, sample, 64).shape[:2]
    assert shown.sum() == shown[9:31, 11:41].sum() == 22 * 30
    note = next((tmp_path / "TN5000_forReview").rglob(f"{sample.id.rpartition('/')[2][:-4]}.xml"))
    note.write_text(note.read_text().replace("<ymax>30</ymax>", ""))
    with pytest.raises(DataError, match=rf"{note.name}: no box of four numbers"):
        task.mask(tmp_path, sample, 64)

    gbcu.write(tmp_path)
    task = get("ultrasound", "gbcu")
    for sample in task.scan(tmp_path)[:6]:
        shown = task.mask(tmp_path, sample, 64)
        assert shown.sum() == shown[12:51, 10:61].sum() == 39 * 51


def test_masks_of_phantoms_lie_where_the_structure_is(tmp_path):
    for modality, share in (("ultrasound", 1.0), ("histo", 0.5)):
        task = get(modality, "phantom_local")
        some = task.scan(tmp_path)[:32]
        masks = [squares.mask_to_square(task, tmp_path, sample, task.mask, 64) for sample in some]
        assert masks[0].shape == (64, 64)
        shown = np.array([mask.any() for mask in masks])
        assert shown.mean() == share
        if modality == "histo":
            assert shown.tolist() == [bool(sample.label) for sample in some]


def test_a_task_without_masks_has_no_dense_cell(tmp_path):
    found = {name: TaskData(get("histo", name), []) for name in ("phantom_local", "phantom_global")}
    study = Study(modality="histo", pinned=None, tasks=found)
    cells = plan.cells(recipe("mae", 0), study, ("dense",))
    assert [(cell.task, cell.readout) for cell in cells] == [("phantom_local", "patches")]


def test_areas_are_stored_as_the_scores_of_a_segmentation():
    samples, _ = test_probing.drawn()
    part = seen(len(samples), 4)
    divisions = test_probing.splits.assignments(test_probing.TASK, samples)
    settings = vars(dense.Settings())
    readers = {"read_tokens": lambda: Rows(part.x, np.arange(len(part.x))), "read_masks": lambda: part.y}
    asked = probing.question(test_probing.TASK, samples, divisions, **readers)
    found = probing.fit("dense", settings, 0, asked)
    stored, about, scored = probing.observed(
        "c", "patches", test_probing.TASK, samples, found, probing.headline("dense", asked.task)
    )
    assert {row["metric"]: row["headline"] for row in scored} == {"dice": True, "iou": False}
    rows = stored["predictions"].to_pandas()
    assert len(rows) == about["samples"] == 80
    areas = np.stack(rows.scores)
    assert scored[0]["value"] == pytest.approx(metrics.dice(*areas.T))
    place = {sample.id: i for i, sample in enumerate(samples)}
    assert areas[:, 2].tolist() == [part.y[place[name]].sum() for name in rows["sample"]]


def test_a_board_shows_dice_over_the_twin_and_verify_recomputes_it(tmp_path):
    first, made = next(iter(TASKS)), recipe("mae", 0)
    labels = images(first, 60)[1]
    rng = np.random.default_rng(0)
    for one in (made, twin(made)):
        add_run(tmp_path, one)
        for task in TASKS:
            add_cell(tmp_path, one, task)
        actual = rng.integers(20, 200, len(labels)) * labels
        both = actual * rng.uniform(0.5, 0.9 if one.budget else 0.6, len(labels))
        areas = np.stack([both, both + 30, actual], axis=1).astype(float)
        add_cell(tmp_path, one, first, probe="dense", areas=areas)
    (board,) = boards(tmp_path)
    (section,) = [one for one in board.sections if one.probe == "dense"]
    assert section.metric == "dice"
    assert {column.metric for column in board.columns} == {"auroc"}
    table, *_ = gains.tabulate_gains(board, section)
    assert [head.lines[:2] for head in table.heads[2:]] == [(TASKS[first][0], "Dice")]
    place = [column.task for column in board.columns].index(first)
    trained, floor = (next(row for row in section.rows if row.twin is kind).entries[place] for kind in (False, True))
    assert trained.gain.value == pytest.approx(trained.score.value - floor.score.value)
    assert trained.verdict == "above twin"
    report = verify(tmp_path)
    assert not [problem for problem in report.problems if "seal" not in problem.what], report
