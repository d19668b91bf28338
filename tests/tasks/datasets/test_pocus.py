"""POCUS: which frames of a clip are taken, who is grouped with whom, what is left out, and what is refused."""

import os
import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tasks import splits
from tasks.base import DataError, Fixed
from tasks.ultrasound import pocus as module
from tests.layouts import pocus

POCUS, PUBLISHED = module.TASKS
PATTERN = np.arange(16).reshape(4, 4).repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def data(tmp_path):
    pocus.write(tmp_path)
    return tmp_path / "covid19_ultrasound" / "data"


def _groups(samples):
    return {sample.id.partition("#")[0].rpartition("/")[2]: sample.group for sample in samples}


def _taken(data, name, frames, rate):
    """Which frames of a clip of that many are taken, by their grey."""
    pocus.clip(data / "pocus_videos" / "convex" / name, [pocus.frame(i, PATTERN) for i in range(frames)], rate)
    samples = [sample for sample in POCUS.scan(data) if f"/{name}#" in sample.id]
    assert [sample.id[-4:] for sample in samples] == [f"#{k:03d}" for k in range(len(samples))]
    greys = [POCUS.read(data, sample, 8).mean() - PATTERN.mean() for sample in samples]
    return [round((grey - pocus.LEVELS[0]) / pocus.LEVELS.step) for grey in greys]


def test_stills_are_one_sample_and_clips_one_for_each_frame_taken(data):
    samples = POCUS.scan(data)
    assert len(samples) == pocus.IMAGES
    assert samples[0].id == "pocus_images/convex/Cov_Oliviera_2020_Fig4A.jpg"
    assert samples[-1].id == "pocus_videos/convex/pneu-everyday.gif#002"
    assert {sample.split for sample in samples} == {""}
    assert {sample.id.rpartition("/")[2] for sample in samples if "lung-sliding" in sample.id} == {
        f"Reg_Avi_lung-sliding.MP4#{k:03d}" for k in range(3)
    }
    assert len({sample.digest for sample in samples}) == pocus.IMAGES
    for sample in samples:
        image = POCUS.read(data, sample, 8)
        assert (image.dtype, image.shape) == (np.uint8, (32, 32, 3))


@pytest.mark.parametrize(
    ("name", "frames", "rate", "taken"),
    [
        ("Reg_a.mp4", 62, 30, [1, 11, 21, 31, 41, 51, 61]),
        ("Reg_a.avi", 20, 25, [1, 9, 17]),
        ("Reg_a.mpeg", 20, 25, [1, 9, 17]),
        ("Reg_a.gif", 11, 10, [1, 4, 7, 10]),
        ("Reg_a.gif", 65, 6, list(range(1, 61, 2))),  # no more than 30
        ("Reg_a.gif", 5, 2, [1, 2, 3, 4]),  # slower than three a second
        ("Reg_a.gif", 8, 0, [1, 4, 7]),  # no speed stated: ten a second
        ("Reg_a.gif", 1, 10, [0]),
        ("Reg_a.mov", 1, 30, [0]),
    ],
)
def test_three_frames_a_second_are_taken_from_the_second_on(data, name, frames, rate, taken):
    assert _taken(data, name, frames, rate) == taken


def test_a_gif_of_unlike_durations_is_sampled_at_their_mean(data):
    path = data / "pocus_videos" / "convex" / "Reg_b.gif"
    frames = [module.Image.fromarray(pocus.frame(i, PATTERN)) for i in range(9)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[20] + [200] * 8)  # 5.6 a second
    assert len([sample for sample in POCUS.scan(data) if "Reg_b.gif" in sample.id]) == 8


def test_transparent_pixels_of_a_gif_become_black(data):
    clear = np.dstack([pocus.frame(9, PATTERN), np.full((32, 32), 255, np.uint8)])
    clear[:16, :, 3] = 0
    frames = [clear, np.roll(clear, 4, axis=1), np.roll(clear, 8, axis=1)]
    pocus.clip(data / "pocus_videos" / "convex" / "Reg_c.gif", frames, 10)
    (sample,) = [sample for sample in POCUS.scan(data) if "Reg_c.gif" in sample.id]
    image = POCUS.read(data, sample, 8)
    assert not image[:16].any()
    assert image[16:].min() > 20


def test_groups_are_patients_else_sets_sources_or_series(data):
    groups = _groups(POCUS.scan(data))
    assert len(set(groups.values())) == pocus.GROUPS
    assert groups["Cov-Atlas-Day+1.gif"] == groups["Cov-Atlas-Day+3.gif"] == "patient 35"
    assert groups["Cov-Butterfly-COVID Lung 2.mp4"] == "source 1"
    assert groups["Reg_clinic_2021_vid1.mp4"] == groups["Reg_clinic_2021_vid2.mp4"] == "series clinic_2021"
    assert groups["Reg-nephropocus.mp4"] == "patient 74"  # the linear clip of this name is patient 77's
    for name in (
        "Pneu_northumbria_0409_set3_vid1",
        "Pneu_northumbria_0409_set3_vid2",
        "Reg_northumbria_0409_set3_vid1",
    ):
        assert groups[f"{name}.avi"] == "set northumbria_0409_set3"


def test_a_row_may_name_the_extension_and_may_lack_patient_and_source(data):
    table = data / "dataset_metadata.csv"
    rows = table.read_text().replace("Cov-Atlas+(44),", "cov-atlas+(44).GIF,").replace(",35,129,", ",,,")
    table.write_text(rows)
    groups = _groups(POCUS.scan(data))
    assert groups["Cov-Atlas+(44).gif"] == "patient 36"
    assert groups["Reg_bikus.png"] == "series bikus"


def test_without_the_table_a_series_is_one_group(data):
    (data / "dataset_metadata.csv").unlink()
    groups = _groups(POCUS.scan(data))
    for names in (
        ("Cov-Atlas-Day+1.gif", "Cov-Atlas-Day+3.gif"),
        ("Reg_pat1Image_133043.mpeg", "Reg_pat1Image_133138.mpeg"),
        ("Pneu_northumbria_0409_set3_vid1.avi", "Reg_northumbria_0409_set3_vid1.avi"),
        ("Reg_Avi_Image009.jpg", "Reg_Avi_Image011.jpg"),
    ):
        assert len({groups[name] for name in names}) == 1
    assert groups["Pneu-grep-pneumonia4.mp4"] != groups["Cov-grep-7525.mp4"]


def test_a_table_without_the_patients_is_refused(data):
    (data / "dataset_metadata.csv").write_text("Filename,Source ID\nx,1\n")
    with pytest.raises(DataError, match="no column 'Patient ID / Name', found Filename, Source ID"):
        POCUS.scan(data)


def test_the_published_split_leaks_and_shows_it(data):
    samples = PUBLISHED.scan(data)
    assert [sample._replace(split="") for sample in samples] == POCUS.scan(data)
    sides = {}
    for sample in samples:
        sides.setdefault(sample.group, set()).add(sample.split)
    assert {group for group, found in sides.items() if len(found) == 2} == {
        "patient 35",
        "patient 4",
        "set northumbria_0409_set3",
    }
    assert PUBLISHED.on_request
    with pytest.raises(DataError, match="on two sides"):
        splits.assignments(replace(PUBLISHED, protocol=Fixed(published=True)), samples)


def test_ultrabenchs_test_part_has_38_files():
    names = module.TEST.split()
    assert len(set(names)) == 38
    assert all(module.NAME.fullmatch(name) for name in names)
    assert [sum(name.startswith(kind) for name in names) for kind in ("Cov", "Pneu", "Reg")] == [11, 11, 16]


def test_viral_and_linear_recordings_are_left_out_and_listed(data):
    assert not any("Vir" in sample.id or "linear" in sample.id for sample in POCUS.scan(data))
    assert module.left_out(data) == {
        "viral": ["pocus_videos/convex/Vir_whitelung_h1n1.mp4"],
        "linear": [f"pocus_videos/linear/{name}" for name, *_ in pocus.LINEAR],
    }


def test_foreign_names_are_refused_and_other_files_ignored(data):
    convex = data / "pocus_videos" / "convex"
    (convex / "._Cov-grep-7525.mp4").write_bytes(b"")
    (convex / "README.txt").write_text("")
    assert len(POCUS.scan(data)) == pocus.IMAGES
    shutil.copy(convex / "Cov-grep-7525.mp4", convex / "recommendations_blines_mov2.mp4")
    with pytest.raises(
        DataError, match=r"recommendations_blines_mov2\.mp4: the name is not like 'Cov-Atlas-Day\+1.gif'"
    ):
        POCUS.scan(data)


@pytest.mark.parametrize("name", ["Cov_broken.mp4", "Cov_broken.gif"])
@pytest.mark.parametrize("content", [b"", b"not a clip"])
def test_an_unreadable_clip_is_named(data, name, content):
    (data / "pocus_videos" / "convex" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: unreadable clip \({len(content)} bytes.*fetch it again"):
        POCUS.scan(data)


def test_without_pyav_the_remedy_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"Cov-Butterfly-COVID Lung 2\.mp4.*pip install 'pretext-bench\[video\]'"):
        POCUS.scan(data)
    for path in (data / "pocus_videos" / "convex").iterdir():
        if path.suffix != ".gif":
            path.unlink()
    assert any(".gif#" in sample.id for sample in POCUS.scan(data))


def test_a_replaced_clip_is_decoded_anew(data):
    path = data / "pocus_videos" / "convex" / "Cov-grep-7525.mp4"
    sample = next(sample for sample in POCUS.scan(data) if "Cov-grep-7525" in sample.id)
    before = POCUS.read(data, sample, 8)
    pocus.clip(path, [pocus.frame(60, PATTERN)] * 5, 24)
    os.utime(path, (1, 1))
    assert POCUS.read(data, sample, 8).mean() > before.mean() + 50


def test_frames_of_a_clip_are_decoded_once(data, monkeypatch):
    samples = [sample for sample in POCUS.scan(data) if "Cov_combatting_Image1" in sample.id]
    module._frames.cache_clear()
    for one, following in pairwise(samples):
        assert not np.array_equal(POCUS.read(data, one, 8), POCUS.read(data, following, 8))
    assert module._frames.cache_info().misses == 1


def test_stills_alone_say_what_is_missing(data):
    shutil.rmtree(data / "pocus_videos" / "convex")
    with pytest.raises(DataError, match="no folder 'convex', found linear"):
        POCUS.scan(data)
