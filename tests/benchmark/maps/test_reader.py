"""The reading study: who sees what, packs that give nothing away, answers refused, commands."""

import html
import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.maps import run_maps
from benchmark.maps.reader import answers, design, pack
from benchmark.maps.reader.design import CHOOSE, RATE, Case
from benchmark.recipe import key
from benchmark.storage import results
from leaderboards.audit.promote import promote
from leaderboards.pages import render
from leaderboards.publish import site
from leaderboards.stats.intervals import group_mean
from tasks.base import DataError
from tests.helpers.boards import recipe, store

ARMS = ["mae", "ijepa", "dinov3", design.UNTRAINED, design.OTHER_IMAGE]
METHODS = {"mae": "1" * 12, "ijepa": "2" * 12, "dinov3": "3" * 12}
CASES = [f"c{number}" for number in range(20)]


def cases(count: int, methods=METHODS) -> list[Case]:
    rng = np.random.default_rng(0)
    made = [
        Case(
            case=f"case-{i}",
            group=f"p{i // 2}",
            task="lesions",
            label=("benign", "malignant")[i % 2],
            image=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            maps={arm: rng.random((8, 8)) for arm in (*methods, design.UNTRAINED)},
        )
        for i in range(count)
    ]
    return design.add_other_images(made, next(iter(methods)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    chosen = design.choose_cases(cases(40), 14, seed=3)
    out = tmp_path_factory.mktemp("pack") / "pack"
    names = {"arms": METHODS, "modality": "ultrasound", "primary": ("mae", "ijepa")}
    return pack.make(chosen[:10], chosen[10:], ["a", "b"], 3, out, **names)


def test_cases_are_one_for_each_patient_and_labels_take_turns():
    found = design.choose_cases(cases(40), 20, seed=1)
    assert len({case.group for case in found}) == 20
    assert found != design.choose_cases(cases(40), 20, seed=2)
    counts = Counter(case.label for case in design.choose_cases(cases(400), 20, seed=1))
    assert counts == {"benign": 10, "malignant": 10}
    with pytest.raises(ValueError, match="21 cases were asked for, 20 patients are there"):
        design.choose_cases(cases(40), 21, seed=1)


def test_every_arm_is_rated_equally_often_and_every_pair_compared():
    rated, compared = design.assign_arms(CASES, ARMS, seed=5)
    assert set(Counter(arm for _, arm in rated).values()) == {20 * design.RATED_ARMS // 5}
    assert len(set(rated)) == len(rated)
    counts = Counter(frozenset(pair) for _, *pair in compared)
    assert len(counts) == 6
    assert max(counts.values()) - min(counts.values()) <= 1


def test_readers_see_the_same_maps_in_another_order_with_sides_drawn_and_repeats_later():
    one, other = (design.make_items(CASES, ["p0", "p1"], ARMS, reader, seed=5) for reader in (0, 1))
    unit = [
        Counter((i.kind, i.case, frozenset((i.arm, i.other))) for i in items if not i.practice and not i.repeats)
        for items in (one, other)
    ]
    assert unit[0] == unit[1]
    assert [i.case for i in one] != [i.case for i in other]
    assert len({i.item for i in [*one, *other]}) == len(one) + len(other)
    place = {item.item: number for number, item in enumerate(one)}
    repeats = [item for item in one if item.repeats]
    assert len(repeats) == round(design.REPEATED * (len(one) - len(repeats) - 2))
    for item in repeats:
        first = one[place[item.repeats]]
        assert place[item.repeats] < place[item.item]
        assert (item.case, {item.arm, item.other}) == (first.case, {first.arm, first.other})
    assert [item.practice for item in one[:2]] == [True, True]
    many = [
        i
        for seed in range(40)
        for i in design.make_items(CASES, [], ARMS, 0, seed)
        if i.kind == CHOOSE and not i.repeats
    ]
    left = np.mean([item.arm < item.other for item in many])
    assert 0.45 < left < 0.55


def test_the_control_by_another_image_is_a_map_of_another_case():
    found = cases(6)
    assert np.array_equal(found[0].maps[design.OTHER_IMAGE], found[1].maps["mae"])
    assert np.array_equal(found[-1].maps[design.OTHER_IMAGE], found[0].maps["mae"])


def test_a_page_holds_everything_and_gives_nothing_away(made):
    text = (made / "reader-a.html").read_text()
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    told = json.dumps({**data, "images": len(data["images"]), "maps": len(data["maps"])}).lower()
    rest = text.replace(json.dumps(data["images"], separators=(",", ":")), "")
    rest = rest.replace(json.dumps(data["maps"], separators=(",", ":")), "").lower()
    for word in (*METHODS, *METHODS.values(), "untrained", "another image", "case-", "benign", "malignant", "lesions"):
        assert word not in told, word
        assert word not in rest, word
    assert set(data["screens"][0]) == {"item", "kind", "image", "maps", "practice"}
    assert "default-src 'none'" in html.unescape(text)
    assert "http" not in rest.replace("http-equiv", "")
    assert all(image.startswith("data:image/webp;base64,") for image in data["images"] + data["maps"])
    assert len({len(screen["maps"]) for screen in data["screens"] if screen["kind"] == RATE}) == 1


def test_a_pack_says_what_was_frozen_and_a_changed_one_is_named(made, tmp_path):
    found = pack.read(made)
    assert found.about["primary"] == ["mae", "ijepa"]
    assert found.about["controls"] == [design.UNTRAINED, design.OTHER_IMAGE]
    assert {row["reader"] for row in found.key} == {"a", "b"}
    copy = shutil.copytree(made, tmp_path / "copy")
    page = copy / "reader-b.html"
    page.write_text(page.read_text().replace("Reading study", "Another study"))
    with pytest.raises(DataError, match=r"reader-b\.html: changed since the pack was made"):
        pack.read(copy)
    page.unlink()
    assert pack.read(copy).about == found.about  # pages go out; the lead needs the key
    (copy / pack.KEY).write_bytes(b"no")
    with pytest.raises(DataError, match=r"key\.parquet: changed"):
        pack.read(copy)
    with pytest.raises(DataError, match="not a pack of `reader make`"):
        pack.read(tmp_path)


def test_a_pack_is_never_written_over_and_readers_have_codes(made):
    names = {"arms": METHODS, "modality": "ultrasound", "primary": ("mae", "ijepa")}
    with pytest.raises(DataError, match="a pack is frozen once made"):
        pack.make(cases(4), [], ["a"], 0, made, **names)
    with pytest.raises(ValueError, match="never a name"):
        pack.make(cases(4), [], ["Dr. No"], 0, made.with_name("other"), **names)
    assert not made.with_name("other").exists()


def answered(made, reader="a", **changes) -> dict:
    """A whole file of a reader: prefers the left map, rates 1 to 5 in turn."""
    rows = []
    for number, row in enumerate(row for row in pack.read(made).key if row["reader"] == reader):
        for question in ("choice",) if row["kind"] == CHOOSE else ("relevance", "spurious"):
            given = ("left", "right")[number % 2] if question == "choice" else number % 5 + 1
            rows.append({"item": row["item"], "question": question, "answer": given, "seconds": 5.0, "comment": ""})
    return {"pack": pack.read(made).about["pack"], "reader": reader, "consent": True, "answers": rows} | changes


def file(tmp_path, content) -> str:
    path = tmp_path / "answers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_answers_are_joined_with_the_key(made, tmp_path):
    whole = answered(made)
    whole["answers"][0]["answer"] = 0
    reader, rows = answers.read(file(tmp_path, whole), pack.read(made))
    assert reader == "a"
    assert len(rows) == len(whole["answers"])
    assert rows["answer"].isna().sum() == 1
    choice = rows[rows["question"] == "choice"].iloc[0]
    given = next(one for one in whole["answers"] if one["item"] == choice["item"])
    assert choice["answer"] == (given["answer"] == "left")
    assert answers.flag(reader, rows, pack.read(made)) == ["1 answers are `cannot judge`"]


def spoilt(whole, **changes):
    return whole | {"answers": [whole["answers"][0] | changes, *whole["answers"][1:]]}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda w: "{", "not a file of answers"),
        (lambda w: "[" * 100_000, "not a file of answers"),
        (lambda w: "[]", "not a file of answers"),
        (lambda w: w | {"pack": "another"}, "answers pack 'another'"),
        (lambda w: w | {"reader": "z"}, "reader 'z' is none of a, b"),
        (lambda w: w | {"consent": "yes"}, "did not tick the consent"),
        (lambda w: w | {"answers": "all"}, "answer 0 is not one of"),
        (lambda w: w | {"answers": [*w["answers"], w["answers"][0]]}, "is answered twice"),
        (lambda w: spoilt(w, item="0"), "which this reader was not shown"),
        (lambda w: spoilt(w, item=["0"]), "which this reader was not shown"),
        (lambda w: spoilt(w, question="choice"), "was not asked 'choice'"),
        (lambda w: spoilt(w, answer=6), "answer 0 is 6"),
        (lambda w: spoilt(w, answer=True), "answer 0 is True"),
        (lambda w: spoilt(w, answer=[1]), r"answer 0 is \[1\]"),
        (lambda w: spoilt(w, seconds=-1), "took -1 seconds"),
        (lambda w: spoilt(w, seconds=math.nan), "took nan seconds"),
        (lambda w: spoilt(w, extra=1), "answer 0 is not one of"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(made, tmp_path, spoil, why):
    with pytest.raises(DataError, match=rf"answers\.json: .*{why}"):
        answers.read(file(tmp_path, spoil(answered(made))), pack.read(made))


def test_straight_lines_one_side_speed_and_gaps_are_flagged(made, tmp_path):
    whole = answered(made)
    for one in whole["answers"]:
        one["answer"], one["seconds"] = ("left" if one["question"] == "choice" else 3), 0.5
    whole["answers"] = whole["answers"][:-3]
    reader, rows = answers.read(file(tmp_path, whole), pack.read(made))
    said = " ".join(answers.flag(reader, rows, pack.read(made)))
    for word in ("3 of", "straight line: 100% of the answers about relevance are 3", "one side: 100%", "speed: 100%"):
        assert word in said


def command(*arguments, code=0) -> str:
    ran = CliRunner().invoke(app, ["reader", *map(str, arguments)])
    assert ran.exit_code == code, ran.output
    return ran.output + (str(ran.exception) if ran.exception else "")


@pytest.fixture
def rated(tmp_path, monkeypatch):
    """A store, a pack about two of its runs, both readers' files, and the store after `reader analyse`."""
    root = store(tmp_path / "store", seeds=(0,))
    runs = {name: key(recipe(name, 0)) for name in ("mae", "ijepa")}
    chosen = cases(20, runs)
    names = {"arms": runs, "modality": "ultrasound", "primary": ("mae", "ijepa")}
    out = pack.make(design.choose_cases(chosen, 10, 0), [], ["a", "b"], 0, tmp_path / "pack", **names)
    files = []
    for reader in "ab":
        files.append(tmp_path / f"{reader}.json")
        files[-1].write_text(json.dumps(answered(out, reader)))
    said = command("analyse", out, *files, "--results", root, "--out", tmp_path / "report")
    return root, out, files, runs, said


def test_the_commands_check_and_analyse_and_store_once(rated, tmp_path):
    root, out, files, runs, said = rated
    assert "Krippendorff's alpha" in said
    rows = results.read(root, "ratings")
    assert set(rows["reader"]) == {"a", "b"}
    assert set(rows["run"]) == {*runs.values(), ""}
    assert (tmp_path / "report" / "strengths.svg").exists()
    assert "# Reading study" in (tmp_path / "report" / "report.md").read_text()
    assert "stays as it is" in command("analyse", out, *files, "--results", root, "--out", tmp_path / "report")
    assert len(results.read(root, "ratings")) == len(rows)
    assert "complete, nothing odd" in command("check", out, *files)
    files[0].write_text("{")
    assert "not a file of answers" in command("check", out, *files, code=1)
    assert "two files are of reader b" in command("analyse", out, files[1], files[1], code=1)


def test_a_board_says_that_no_one_has_rated_until_someone_has(rated, tmp_path):
    (unrated,) = site.load_boards(store(tmp_path / "unrated", seeds=(0,)))
    assert "No expert ratings yet" in render.markdown(unrated)
    assert "Experts" not in render.markdown(unrated)
    root, _, _, runs, _ = rated
    (board,) = site.load_boards(root)
    text = render.markdown(board)
    assert "No expert ratings yet" not in text
    assert "Experts" in text
    (mine,) = [one for one in board.ratings if one.name == "MAE"]
    rows = results.read(root, "ratings")
    own = rows[(rows["run"] == runs["mae"]) & (rows["question"] == "relevance") & (rows["repeats"] == "")]
    assert (mine.readers, mine.value) == (2, pytest.approx(own["answer"].mean()))
    expected = group_mean(own["answer"].to_numpy(), own["group"].to_numpy(str))
    assert (mine.groups, mine.low, mine.high) == (expected.groups, None, None)
    assert expected.groups == own["group"].nunique() < 20
    assert "not rated" in text  # the twins
    promote(root, tmp_path / "published", {})
    assert len(results.read(tmp_path / "published", "ratings")) == len(rows)


def test_the_interval_of_a_mean_counts_groups_not_images():
    values, groups = np.repeat([0.0, 1.0], 100), np.repeat(list("abcdefghijklmnopqrst"), 10)
    found = group_mean(values, groups)
    assert 0.2 < found.low < 0.3 < 0.7 < found.high < 0.8


def test_making_a_pack_asks_for_the_maps_of_each_run_and_of_none(tmp_path, monkeypatch):
    """With maps that tell who made them: each arm holds its own."""
    asked = []

    def opened(run, root):
        found = recipe(run, 0)
        return run_maps.OpenRun({"run": key(found)}, replace(found, modality="ultrasound"), None, "patches", None)

    def saliency(run, task, data, cache, samples, kind, untrained=False):
        asked.append((run.row["run"], untrained))
        return np.zeros((len(samples), 8, 8, 3), np.uint8), np.full((len(samples), 4, 4), len(asked))

    monkeypatch.setattr(run_maps, "open_run", opened)
    monkeypatch.setattr(run_maps, "compute_saliency", saliency)
    arguments = ("make", "mae", "ijepa", "--task", "phantom_local", "--cases", 6, "--cache", tmp_path / "cache")
    command(*arguments, "--out", tmp_path / "pack")
    runs = [key(recipe(name, 0)) for name in ("mae", "ijepa")]
    assert asked == [(runs[0], False), (runs[1], False), (runs[0], True)]
    found = pack.read(tmp_path / "pack")
    assert found.about["arms"] == dict(zip(("mae", "ijepa"), runs, strict=True))
    assert found.about["cases"] == 6
    assert len({row["case"] for row in found.key}) == 6 + design.PRACTICE
    assert "name two of mae, ijepa" in command(*arguments, "--primary", "mae,dinov3", "--out", tmp_path / "x", code=1)


def test_simulating_stores_nothing_and_says_what_it_is(tmp_path):
    said = command("simulate", "--studies", "2", "--cases", "20", "--quality", "mae=0,ijepa=2")
    assert said.startswith("SIMULATED readers, no one was asked: 2 studies of 3 readers and 20 cases")
    assert "12 cases have no interval" in command("simulate", "--cases", "12", code=1)
    assert "give arm=number" in command("simulate", "--quality", "mae", code=1)
