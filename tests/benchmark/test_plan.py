"""What a plan refuses: whatever probing would refuse once encoders were pretrained."""

import pytest

from benchmark.study import Study, Wanted, expand_names, leave_out, survey
from tasks.base import DataError
from tests.layouts import bus_bra, butterfly, kather2016

TOP = "Kather_texture_2016_image_tiles_5000"


def find(data, task: str, modality: str = "histo", probes: tuple[str, ...] = (), corpus: str = "phantom") -> Study:
    asked = Wanted(
        modalities=(modality,), track="smoke", pretexts=("mae",), tasks=(task,), probes=probes, corpus=corpus
    )
    return survey(asked, modality, data, data / "cache")


def test_a_dataset_that_cannot_be_divided_is_refused_before_anything_is_pretrained(tmp_path):
    kather2016.write(tmp_path)
    for source in ("03", "04"):
        for path in (tmp_path / TOP / "07_ADIPOSE").glob(f"*CRC-Prim-HE-{source}*"):
            path.unlink()
    with pytest.raises(DataError, match=r"histo/kather2016: class 'adipose' has 4 groups .*fewer than the 5 folds"):
        find(tmp_path, "kather2016")


def test_so_is_one_that_unreadable_images_make_so(tmp_path):
    kather2016.write(tmp_path)
    study = find(tmp_path, "kather2016")
    adipose = study.tasks["kather2016"].task.classes.index("adipose")
    lost = [s.id for s in study.tasks["kather2016"].samples if s.label == adipose and s.group in ("03", "04")]
    assert len(leave_out(study, {"kather2016": tuple(lost[:1])}).tasks["kather2016"].samples) > 0
    with pytest.raises(DataError, match="class 'adipose' has 4 groups"):
        leave_out(study, {"kather2016": tuple(lost)})


def test_leaving_out_images_never_moves_a_patient_of_the_corpus_into_a_test_set(tmp_path):
    bus_bra.write(tmp_path)
    study = find(tmp_path, "bus_bra", "ultrasound", corpus="local")
    (member,) = study.pinned.members
    held, refused = {sample.group for sample in member.train}, {}
    for sample in member.samples:
        try:
            kept = leave_out(study, {"bus_bra": (sample.id,)}).tasks["bus_bra"]
        except DataError as error:
            refused[sample.id] = str(error)
            continue
        assert not held & {kept.samples[i].group for one in kept.divisions for i in one.test}
    assert refused
    assert all(f"its 1 unreadable images, such as {name}, it would be tested" in said for name, said in refused.items())


def test_a_probe_that_needs_more_test_groups_than_there_are_is_refused(tmp_path):
    butterfly.write(tmp_path)
    assert find(tmp_path, "butterfly", "ultrasound").tasks
    with pytest.raises(DataError, match=r"butterfly: \d groups \(patient\) .*nuisance probe alters, 5 are needed"):
        find(tmp_path, "butterfly", "ultrasound", ("nuisance",))


def test_a_beginning_that_tasks_share_names_them_all():
    distances = tuple(f"phantom_relation_{distance}" for distance in ("far", "middle", "near"))
    assert expand_names(("phantom_relation",)) == distances
    assert expand_names(("busi", "phantom_relation", "phantom_relation_far")) == ("busi", *distances)
    assert len(expand_names(("phantom",))) == 3 + 5 + 3 + 6
    assert expand_names(("phantom_relatio", "buss")) == ("phantom_relatio", "buss")
