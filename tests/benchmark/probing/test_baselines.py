"""What needs no encoder: each baseline sees what it says it sees, and what is stored can be recomputed."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmark.probing import baselines
from benchmark.recipe import Runtime
from benchmark.storage import results, schema
from leaderboards.audit.verify import verify
from tasks.base import Access, Fixed, Sample, Task, digest
from tasks.store import Store

SIDE = 32


def _images(kind: str) -> tuple[Task, list[Sample], Store]:
    """120 images of two classes that differ in colour or in the place of a bright half, 40 in each part."""
    rng = np.random.default_rng(0)
    samples, pixels = [], []
    for i in range(120):
        label, image = i % 2, rng.integers(60, 90, (SIDE, SIDE, 3)).astype(np.uint8)
        if kind == "colour":
            image[rng.permutation(SIDE)[: SIDE // 2]] += np.array([100, 0, 0] if label else [0, 0, 100], np.uint8)
        else:
            image[:, SIDE // 2 :] += np.uint8(100)
            image = image if label else image[:, ::-1]
        name = f"{i:03d}"
        samples.append(Sample(name, label, name, digest(name), ("train", "val", "test")[i // 2 % 3]))
        pixels.append(image)
    task = Task(
        name="made",
        modality="histo",
        title="Made",
        question="Which?",
        classes=("a", "b"),
        group_kind="image",
        protocol=Fixed(published=True),
        metric="auroc",
        version=1,
        access=Access(home="-", licence="-", citation="-"),
        scan=lambda data: samples,
        read=lambda data, sample, side: pixels[int(sample.id)],
        policy="crop",
        images="made 1",
        family="made",
        independent=True,
    )
    return task, samples, Store("0" * 12, tuple(s.id for s in samples), np.stack(pixels), ())


def _measured(tmp_path, kind):
    task, samples, built = _images(kind)
    runtime = Runtime(data=tmp_path, results=tmp_path / "results", cache=tmp_path / "cache")
    baselines.measure(task, samples, built, runtime)
    rows = results.read(tmp_path / "results", "baselines")
    return {(row.baseline, row.metric): row.value for row in rows.itertuples()}


@pytest.mark.parametrize(("kind", "histogram"), [("colour", 1.0), ("place", 0.5)])
def test_a_histogram_sees_colours_and_not_places(tmp_path, kind, histogram):
    found = _measured(tmp_path, kind)
    assert found["histogram", "auroc"] == pytest.approx(histogram, abs=0.2 if histogram < 1 else 0)
    assert found["thumbnail", "auroc"] == 1.0
    assert found["majority", "auroc"] == 0.5
    assert found["majority", "balanced_accuracy"] == 0.5


def test_features_are_what_the_card_says():
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[: SIDE // 2, :, 0] = 255
    histogram = baselines.histogram(image) ** 2
    assert histogram.shape == (112,)
    np.testing.assert_allclose(histogram[[0, 15, 16, 32]], [0.5, 0.5, 1, 1])
    np.testing.assert_allclose(histogram[48:].sum(), 1)
    small = baselines.thumbnail(image).reshape(8, 8, 3)
    assert small[:4, :, 0].min() == 1
    assert small[4:].max() == small[..., 1:].max() == 0


def test_baselines_are_stored_once_and_recomputed_by_verify(tmp_path):
    _measured(tmp_path, "colour")
    paths = results.files(tmp_path / "results", "baselines")
    assert len(paths) == len(baselines.NAMES)
    before = [path.stat().st_mtime_ns for path in paths]
    _measured(tmp_path, "colour")
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert not verify(tmp_path / "results").problems
    table = results.read_file(paths[0])
    rows = table.to_pylist()
    rows[0]["value"] += 1e-6
    pq.write_table(schema.table("baselines", rows), paths[0])
    problem, *_ = sorted(verify(tmp_path / "results").problems, key=lambda problem: problem.what.startswith("column"))
    assert problem.file == paths[0]
    assert problem.what == rows[0]["metric"]
