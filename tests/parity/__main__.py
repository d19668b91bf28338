"""Prints the table of docs/parity.md."""

from tasks import host
from tests.parity import dinov3, ijepa, mae


def table() -> list[str]:
    """Markdown lines."""
    lines = ["| | Compared | Ours | Reference | of | Difference | Tolerance |", "|---" * 7 + "|"]
    for pretext, module in {"MAE": mae, "I-JEPA": ijepa, "DINOv3": dinov3}.items():
        for row in (row for compare in module.COMPARISONS for row in compare()):
            limits = f"{row.difference:.2g}", f"{row.tolerance:.2g}"
            lines.append(f"| {' | '.join((pretext, row.what, row.ours, row.theirs, row.reference, *limits))} |")
    return lines


if __name__ == "__main__":
    host.use_utf8()
    print("\n".join(table()))
