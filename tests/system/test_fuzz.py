"""Over 10,000 damaged inputs: readers answer with our own errors, soon, in bounded memory. See helpers/fuzz.py."""

import contextlib
import errno
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmark.encoders import encoder
from benchmark.lab.goldens import short
from benchmark.recipe import canonical, from_json, key
from benchmark.storage import results, schema, seals
from tasks import sources
from tasks.base import DataError
from tasks.reading import tables
from tests.helpers import fuzz

ROOT = Path(__file__).parents[2]
CASES = int(os.environ.get("PRETEXT_BENCH_FUZZ") or 315)  # of each target, and of each test by hypothesis
TARGETS = sorted(fuzz.TARGETS)


@pytest.fixture(scope="module")
def fuzzed():
    """{target: the process that fuzzed it, to come}, two at a time."""

    def fuzz_one(target: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tests.helpers.fuzz", target, "--cases", str(CASES)]
        limit = max(300, CASES)
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
        except OSError as error:  # seen once in CI: a process that never began tells nothing of the reader
            if error.errno != errno.EFAULT:
                raise
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)

    with ThreadPoolExecutor(2) as pool:
        yield {target: pool.submit(fuzz_one, target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_gives_our_own_error(target, fuzzed):
    done = fuzzed[target].result()
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == []


def test_the_cases_are_ten_thousand_and_a_reader_that_lets_errors_out_is_caught(monkeypatch):
    assert CASES * (len(TARGETS) + 3) >= 10_000
    loose = fuzz.Target(
        lambda folder: (folder / "a.json").write_text('{"a": [1, 2]}'), lambda f, n: json.loads((f / n).read_bytes())
    )
    monkeypatch.setitem(fuzz.TARGETS, "loose", lambda: loose)
    assert fuzz.fuzz("loose", 50, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
QUICK = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
WHOLE = json.loads(canonical(short("mae")))


@given(
    value=JSON, place=st.sampled_from([(), *((name,) for name in WHOLE), ("encoder", "width"), ("corpus", "members")])
)
@QUICK
def test_a_recipe_of_any_json_is_a_recipe_or_refused(value, place):
    made = json.loads(json.dumps(WHOLE))
    at = made
    for name in place[:-1]:
        at = at[name]
    if place:
        at[place[-1]] = value
    with contextlib.suppress(ValueError):
        key(from_json(json.dumps(made if place else value)))


@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@QUICK
def test_any_bytes_as_table_seal_or_results_are_refused_or_read(content, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    with contextlib.suppress(DataError):
        tables.read_csv(tmp_path / "a.csv", "file")
    (tmp_path / seals.FILE).write_bytes(content)
    with contextlib.suppress(schema.SchemaError):
        seals.broken(tmp_path)
    (tmp_path / "cells.parquet").write_bytes(content)
    with pytest.raises(schema.SchemaError, match="not a readable Parquet file"):
        results.read_file(tmp_path / "cells.parquet")


@given(location=st.text(max_size=60), kind=st.sampled_from(sources.kinds()))
@QUICK
def test_any_text_as_a_corpus_is_opened_or_refused(location, kind):
    with contextlib.suppress(DataError, ValueError):
        opened = sources.open(f"{kind}:{location}", "ultrasound" if kind == "dicom" else "histo")
        assert "/" not in opened.name


def test_a_pickle_that_calls_itself_weights_is_not_unpickled(tmp_path):
    class Harmful:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "harm", "done")

    path = tmp_path / "encoder.safetensors"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(schema.SchemaError, match=r"encoder\.safetensors: not the weights of this encoder"):
        encoder.load(short("mae").encoder, path)
    assert not (tmp_path / "harm").exists()


def test_a_safetensors_header_that_lies_is_named(tmp_path):
    import torch

    path = tmp_path / "encoder.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    content = path.read_bytes()
    for lie in (
        (2**60).to_bytes(8, "little") + content[8:],
        content.replace(b"[0,8]", b"[0,9]"),
        content.replace(b'"F32"', b'"F64"'),
        content,
    ):
        path.write_bytes(lie)
        with pytest.raises(schema.SchemaError, match="not the weights of this encoder"):
            encoder.load(short("mae").encoder, path)
