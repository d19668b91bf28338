"""What every stored table holds, column by column."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

SCHEMA_VERSION = 3


class SchemaError(Exception):
    """A stored file that this version of the code cannot read. The message names the file and the remedy."""


class OtherVersion(SchemaError):
    """The file is sound, and another version of the code wrote it."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()), metadata={"pretext_bench_schema": str(SCHEMA_VERSION)})


S, I, F, B = pa.string(), pa.int64(), pa.float64(), pa.bool_()  # noqa: E741

TABLES: dict[str, pa.Schema] = {
    "runs": _schema(
        run=S,  # key(recipe)
        recipe=S,  # canonical JSON of the recipe
        modality=S,
        corpus=S,
        corpus_digest=S,
        corpus_images=I,
        synthetic=B,  # the corpus is simulated
        track=S,
        pretext=S,
        pretext_version=I,
        seed=I,
        twin=S,  # run id of the twin; equal to `run` for a twin
        engine=I,
        budget_flops=F,
        expected_flops=F,  # steps × the pretext's formula
        realised_flops=F,  # formula × images actually seen
        steps=I,
        images_seen=I,
        seconds=F,  # wall time of all training sessions of this run
        peak_memory_bytes=I,
        energy_joules=F,  # null where not readable
        status=S,  # "finished" or "diverged"
        weights_sha256=S,
        commit=S,
        dirty=B,
        versions=S,  # JSON: python and packages
        device=S,
        threads=I,
        processes=I,
        compiled=B,  # torch.compile; null where it was not recorded
        micro=I,  # images of a process at once; null: all of its share of the batch, or not recorded
        created=S,  # UTC, ISO 8601
    ),
    "curves": _schema(run=S, step=I, progress=F, name=S, value=F),
    "trials": _schema(
        modality=S,
        track=S,
        pretext=S,  # "twin": the untrained encoder
        pretext_version=I,
        engine=I,
        settings=S,  # JSON
        seed=I,
        budget_flops=F,
        images_seen=I,
        seconds=F,
        task=S,
        score=F,  # AUROC of the linear probe on development test patients
    ),
    "fits": _schema(cell=S, repeat=I, fold=I, settings=S, metric=S, score=F, selected=B),
    "predictions": _schema(
        cell=S,
        sample=S,
        group=S,
        label=I,
        scores=pa.list_(F),  # one per class, as used by the metrics
        repeat=I,  # 0 under a fixed protocol
        fold=I,  # 0 under a fixed protocol
        readout=S,
        split_variant=S,  # "published", "clean", "cut" or "folds"
        fraction=F,  # of training groups
        shots=I,  # null unless few-shot
        draw=I,
        corruption=S,  # "" for the clean test set
        strength=I,
    ),
    "cells": _schema(
        cell=S,
        run=S,
        modality=S,
        corpus=S,
        corpus_digest=S,
        track=S,
        pretext=S,
        seed=I,
        twin=B,  # this cell belongs to a twin
        task=S,
        task_version=I,
        task_title=S,
        data=S,  # identity of the task's samples
        data_images=I,
        data_expected=I,  # of the complete dataset; null where unknown
        synthetic=B,
        classes=pa.list_(S),
        headline=B,  # this metric is the task's headline
        probe=S,
        probe_version=I,
        settings=S,
        readout=S,
        metric=S,
        value=F,
        groups=I,  # in the test set (all folds together)
        group_kind=S,
        family=S,  # dataset family, inside which a group's name means something
        independent=B,  # the groups are patients or slides
        samples=I,
        protocol=S,  # "published", "cut", "folds(k, repeats)" or "folds(k, repeats) of one half"
        leakage=S,  # "pass", "warn" or "unknown"
        weights_sha256=S,
        predictions_sha256=S,
        fits_sha256=S,
        leakage_sha256=S,
        created=S,
    ),
    "baselines": _schema(
        cell=S,  # id of the baseline on this task: the key of its predictions and fits
        baseline=S,  # "majority", "histogram" or "thumbnail"
        version=I,
        modality=S,
        task=S,
        task_version=I,
        data=S,
        pixels=I,  # side of the stored images
        policy=S,
        metric=S,
        headline=B,
        value=F,
        groups=I,
        samples=I,
        protocol=S,
        predictions_sha256=S,
        fits_sha256=S,
        created=S,
    ),
    "ceilings": _schema(
        cell=S,  # id of the ceiling on this task: the key of its predictions and fits
        family=S,  # images that its tasks share
        heads=S,  # JSON: names of the tasks that were learnt together
        modality=S,
        task=S,
        task_version=I,
        data=S,
        track=S,
        encoder=S,  # canonical JSON of its EncoderSpec
        pixels=I,  # side of the stored images
        policy=S,
        seed=I,
        budget_flops=F,  # of each model: one, or one a fold
        realised_flops=F,  # of each
        steps=I,  # of each
        images_seen=I,  # by each
        labels=I,  # distinct training images with a label in some head; by folds: mean of the models
        label_groups=I,  # distinct groups of those
        chosen=F,  # share of training at which validation was best; by folds: mean of the models
        metric=S,
        headline=B,
        value=F,
        groups=I,
        samples=I,
        protocol=S,  # "published", "clean", "cut" or "folds(k, 1)": of repeated folds the first repeat alone
        engine=I,
        version=I,
        seconds=F,  # wall time of the training of all models of the family
        device=S,
        threads=I,
        commit=S,
        dirty=B,
        versions=S,  # JSON: python and packages
        predictions_sha256=S,
        fits_sha256=S,
        created=S,
    ),
    "leakage": _schema(
        corpus_digest=S,  # "" in a passport: the task's own split alone
        task=S,
        data=S,
        between=S,  # "corpus and test", "train and test", "val and test", "train and val" or "groups" (folds)
        kind=S,  # "exact", "group" or "near"
        count=I,  # samples of the second side with a partner in the first; null: not looked for
        examples=S,  # JSON: the first of them
    ),
    "pixels": _schema(
        modality=S,
        task=S,
        data=S,  # identity of the task's samples
        images=I,  # that were looked at
        low=I,  # short side of the smallest, in pixels, as the files are here
        median=F,
        high=I,
        released=F,  # median short side of the owners' release, by the task; null where it is not stated
        created=S,
    ),
    "summaries": _schema(
        modality=S,
        track=S,
        corpus_digest=S,
        task=S,
        data=S,  # identity of the task's samples
        probe=S,
        runs=S,  # JSON: ids of the runs behind a point
        weights=S,  # JSON: SHA-256 of their encoders
        what=S,  # that is turned, see `leaderboards.boards.board.Series`
        kind=S,
        metric=S,
        level=F,  # labels, or strength of an alteration
        value=F,  # mean over seeds
        low=F,  # 95 % interval; null where there is none
        high=F,
        drop=F,  # clean minus altered, on the same samples; null where nothing is altered
        drop_low=F,
        drop_high=F,
        groups=I,
        seeds=I,
        created=S,
    ),
    "locality": _schema(
        modality=S,
        task=S,
        task_version=I,
        data=S,  # identity of the task's samples
        version=I,  # of the measurement
        value=F,  # (local - 1/2) / (full - 1/2); null where it is omitted because full is under .70
        low=F,  # 95 % interval over groups
        high=F,
        local=F,  # AUROC with a field of an eighth of the side
        full=F,  # AUROC with the full field
        groups=I,
        samples=I,
        created=S,
    ),
    "maps": _schema(
        run=S,
        weights_sha256=S,
        modality=S,
        task=S,
        task_version=I,
        data=S,  # identity of the task's samples
        version=I,  # of the maps' recipe
        public=B,  # whether the figures beside it may be shown on a public page
        sample=S,
        group=S,
        kind=S,  # "attention", "rollout" or "cosine"; "tokens" of what is about all of them
        control=S,  # "" for the encoder itself, "untrained" for the same architecture before training, "chance"
        score=S,  # see `benchmark.maps.patch_maps`
        value=F,
        created=S,
    ),
    "ratings": _schema(
        pack=S,
        modality=S,
        task=S,
        reader=S,  # a code
        item=S,  # a screen of that reader
        question=S,  # "relevance", "spurious" or "choice"
        case=S,  # sample id
        group=S,
        arm=S,  # pretext, "untrained" or "another image"; of a choice: the left one
        run=S,  # "" of a control
        other=S,  # of a choice: the right one
        other_run=S,
        repeats=S,  # the item that this one shows again, or ""
        answer=F,  # 1 to 5; of a choice 1: left, 0: right; null: cannot judge
        seconds=F,
        created=S,
    ),
}

ADDED = {"runs": ("compiled", "micro"), "cells": ("family", "independent")}  # by schema 3


def table(name: str, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Rows as the named table. Raises KeyError on an unknown table, ValueError on a missing or unknown column."""
    schema, rows = TABLES[name], list(rows)
    for row in rows:
        if set(row) != set(schema.names):
            raise ValueError(f"{name}: columns differ from the schema: {sorted(set(row) ^ set(schema.names))}")
    return pa.Table.from_pylist(rows, schema=schema)
