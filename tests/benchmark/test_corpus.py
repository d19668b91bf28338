"""What a corpus takes of the datasets found: training parts and pretraining halves, and nothing of other folds."""

import shutil
from pathlib import Path

import pytest

from benchmark import corpus
from benchmark.probing import contamination
from benchmark.recipe import Runtime
from benchmark.study import Study, TaskData
from tasks import splits
from tasks.base import NoData, digest
from tasks.histo.idc import TASK as IDC
from tasks.ultrasound.bus_bra import TASK as BUS_BRA
from tasks.ultrasound.busi import TASK as BUSI
from tests.layouts import breakhis, breast_usg, bus_bra, busi, idc


def resolve(modality: str, data: Path) -> corpus.Pinned:
    return corpus.resolve(modality, "local", data, data.parent / "cache")


def test_of_a_halved_task_the_pretraining_half_enters_and_of_other_folds_nothing(tmp_path):
    data = tmp_path / "data"
    bus_bra.write(data / "one")
    breast_usg.write(data / "two")
    pinned = resolve("ultrasound", data)
    (member,) = pinned.members
    assert member.source.name == "bus_bra"
    held, probed = splits.halves(BUS_BRA, member.samples)
    assert member.train == [member.samples[i] for i in held]
    assert pinned.corpus.members == (("bus_bra", BUS_BRA.version),)
    assert pinned.corpus.images == len(held)
    assert pinned.corpus.digest == digest(*sorted(member.samples[i].digest for i in held))[:12]
    tested = {i for division in splits.assignments(BUS_BRA, member.samples) for i in division.test}
    assert tested == set(probed.tolist())
    assert not {sample.group for sample in member.train} & {member.samples[i].group for i in tested}


def test_halves_and_training_parts_make_one_corpus(tmp_path):
    data = tmp_path / "data"
    bus_bra.write(data)
    busi.write(data)
    (data / "groups.csv").unlink()
    members = {member.source.name: member for member in resolve("ultrasound", data).members}
    assert set(members) == {"bus_bra", "busi"}
    assert len(members["bus_bra"].train) == len(splits.halves(BUS_BRA, BUS_BRA.scan(data))[0])
    (division,) = splits.assignments(BUSI, members["busi"].samples)
    assert members["busi"].train == [members["busi"].samples[i] for i in division.train]


def test_in_histology_the_half_of_idc_is_taken(tmp_path):
    data = tmp_path / "data"
    idc.write(data / "one")
    breakhis.write(data / "two", scales=(100,))
    (member,) = resolve("histo", data).members
    assert (member.source.name, len(member.samples)) == ("idc", idc.IMAGES)
    assert member.train == [member.samples[i] for i in splits.halves(IDC, member.samples)[0]]


def test_folds_over_all_images_leave_nothing_to_pretrain_on(tmp_path):
    breast_usg.write(tmp_path / "data")
    assert corpus.default("ultrasound", tmp_path / "data") == "phantom"
    with pytest.raises(NoData, match="no ultrasound dataset with a part to pretrain on found under"):
        resolve("ultrasound", tmp_path / "data")
    bus_bra.write(tmp_path / "data")
    assert corpus.default("ultrasound", tmp_path / "data") == "local"


def test_what_the_halves_share_is_looked_for_as_in_any_corpus(tmp_path):
    """No patient, for they were divided by patient; a copy, where there is one."""
    runtime = Runtime(data=tmp_path / "data", results=tmp_path / "results", cache=tmp_path / "cache")
    bus_bra.write(runtime.data)
    for copies in (0, 1):
        pinned = resolve("ultrasound", runtime.data)
        (member,) = pinned.members
        study = Study(modality="ultrasound", pinned=pinned)
        tested = [member.samples[i] for i in splits.halves(BUS_BRA, member.samples)[1]]
        rows = contamination.of_corpus(study, TaskData(BUS_BRA, member.samples), tested, runtime)
        found = {row.kind: row.count for row in rows if row.between == "corpus and test"}
        assert found == {"exact": copies, "group": 0, "near": copies}
        shutil.copy(runtime.data / member.train[0].id, runtime.data / tested[0].id)
