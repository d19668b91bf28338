"""An analysis in words, as Markdown, and as a figure."""

from collections.abc import Iterable

from matplotlib.figure import Figure

from benchmark.maps.reader.analysis import SUPPORT, Analysis, Estimate
from benchmark.maps.reader.design import CONTROLS
from benchmark.metrics import INTERVAL_GROUPS, RANKED_GROUPS


def write(found: Analysis, flagged: dict[str, list[str]]) -> str:
    """flagged: what `answers.flag` says of each reader."""
    text = (
        f"# Reading study\n\n{len(found.readers)} readers ({', '.join(found.readers)}), {found.cases} cases, "
        f"{found.answers:,} answers, {found.unsure} of them `cannot judge`. Intervals: 95 %, cases left out in turn, "
        "readers kept.\n\n"
    )
    text += "".join(f"- reader {code}: {flag}\n" for code, flags in flagged.items() for flag in flags)
    agreement = []
    for question, (change, repeats) in found.changes.items():
        alpha = found.alpha.get(question, "one reader")
        icc = "; ".join(f"{name} {one}" for name, one in found.icc.get(question, {}).items()) or "–"
        own = f"changed by {change:.2f} on average, {repeats} repeats" if repeats else "no repeat answered"
        agreement.append((question, alpha, icc, own))
    heads = ("Question", "Krippendorff's alpha", "ICC", "A reader's own repeats")
    text += f"\n## Agreement\n\n{_table(heads, agreement)}"
    if weak := [question for question in found.changes if not found.supports_ranking(question)]:
        reason = f"alpha is under {SUPPORT}, or not known, or there are under {RANKED_GROUPS} cases"
        text += f"\n**The ratings do not support a ranking** by {', '.join(weak)}: {reason}.\n"
    text += "\n## Which map (Bradley-Terry strengths, 0 is their mean)\n\n"
    text += _table(("Arm", "Strength"), sort_falling(found.strengths)) + "\n"
    differences = []
    for (one, other), difference in found.differences.items():
        note = " (primary)" if {one, other} == set(found.primary) else ""
        differences.append((f"{one} − {other}{note}", difference))
    text += _table(("Difference", ""), differences)
    for question, means in found.means.items():
        turned = ", turned round: 5 is none" if question == "spurious" else ""
        text += f"\n## {question} (1 to 5{turned})\n\n" + _table(("Arm", "Mean"), sort_falling(means))
    lines = compare_with_controls(found) or ["no control arm was shown"]
    return text + "\n## Controls\n\n" + "".join(f"- {line}\n" for line in lines)


def _table(heads: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [" | ".join(map(str, row)) for row in rows]
    return f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n" + "".join(f"| {line} |\n" for line in lines)


def sort_falling(found: dict[str, Estimate]) -> list[tuple[str, Estimate]]:
    return sorted(found.items(), key=lambda pair: -pair[1].value)


def compare_with_controls(found: Analysis) -> list[str]:
    """Whether each method was rated above each control: where it was not, its maps do not reflect what was learnt."""
    lines = []
    for question, means in found.means.items():
        for control in (name for name in CONTROLS if name in means):
            for arm in (name for name in means if name not in CONTROLS):
                one, other = means[arm], means[control]
                if one.low is None:
                    word = f"not judged against (under {INTERVAL_GROUPS} cases)"
                else:
                    word = "above" if one.low > other.high else "not shown above"
                lines.append(f"{question}: {arm} {one} is {word} {control} {other}")
    return lines


def draw(found: Analysis) -> Figure:
    """The strengths of the arms with their intervals, best first."""
    drawn = Figure(figsize=(4.5, 0.8 + 0.3 * len(found.strengths)), layout="constrained")
    axes, arms = drawn.subplots(), sort_falling(found.strengths)
    for place, (_, one) in enumerate(arms):
        if one.low is not None:
            axes.plot([one.low, one.high], [place, place], color="#0b62b5")
        axes.plot(one.value, place, "o", color="#0b62b5")
    axes.set_yticks(range(len(arms)), [arm for arm, _ in arms])
    axes.invert_yaxis()
    axes.axvline(0, color="#c9ced4", zorder=0)
    axes.set_xlabel("strength (Bradley-Terry), 95 %, cases left out in turn")
    return drawn
