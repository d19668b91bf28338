"""The words of every verdict, once: of a gain over the twin, of a pair, of a claim, and of why there is none."""

from __future__ import annotations

from typing import NamedTuple

ABOVE, NOT_SHOWN, BELOW = "above twin", "not shown above twin", "below twin"
SAME = "not shown to differ"

UNDEFINED = "undefined"
DEPENDENT = "groups are not patients"
TOO_FEW = "too few groups"
FEW_TO_TEACH = "too few groups to show a ceiling above the twin"
UNTAUGHT = "labels do not teach this encoder this task at this budget"  # its ceiling is not shown above the twin
FEW_ERRORS = "too few of the rarest class in error"
AS_IF = "as if images were independent: too narrow"  # beside every value and interval of a task that is DEPENDENT

HOLDS, UNTESTABLE = "holds", "untestable"
CLAIM_NOT_SHOWN, CONTRADICTED = "not shown", "contradicted"
OPPOSITE = "opposite direction, within the margin"
RISES, FALLS = "rises with locality", "falls with locality"  # of a slope of which nothing is claimed


class Words(NamedTuple):
    """What a difference is called: the first is shown ahead, it is not shown, the second is shown ahead."""

    ahead: str
    same: str
    behind: str

    def of(self, shown: int) -> str:
        """shown: 1, 0 or -1."""
        return {1: self.ahead, 0: self.same, -1: self.behind}[shown]


GAIN = Words(ABOVE, NOT_SHOWN, BELOW)


def pair(first: str, second: str) -> Words:
    return Words(f"{first} is ahead", SAME, f"{second} is ahead")
