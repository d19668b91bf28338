"""Prints docs/tables/parity.csv."""

import csv
import sys
from typing import TextIO

from tasks import host
from tests.parity import dinov3, ijepa, mae


def write(to: TextIO) -> None:
    rows = csv.writer(to, lineterminator="\n")
    rows.writerow(("Pretext", "Compared", "Ours", "Reference", "of", "Difference", "Tolerance"))
    for pretext, module in {"MAE": mae, "I-JEPA": ijepa, "DINOv3": dinov3}.items():
        for row in (row for compare in module.COMPARISONS for row in compare()):
            limits = f"{row.difference:.2g}", f"{row.tolerance:.2g}"
            rows.writerow((pretext, row.what, row.ours, row.theirs, row.reference, *limits))


if __name__ == "__main__":
    host.use_utf8()
    write(sys.stdout)
