"""What a board is made of: its tasks, and what its runs cost."""

from __future__ import annotations

from leaderboards.boards.board import Board
from leaderboards.tables.addresses import task_page
from leaderboards.tables.gains import split_in_words
from leaderboards.tables.table import Line, Table, Text, heads_of, plain_table
from leaderboards.words import duration, flops, memory, passes
from tasks.cards import plural


def tabulate_tasks(board: Board) -> Table:
    heads = ("Task", "Classes", "Test groups", "Test images", "Images", "Split", "Leakage", "Data")
    return Table(
        title="Tasks",
        caption="What each task consists of.",
        heads=heads_of(*heads),
        rows=tuple(
            Line(
                head=Text(
                    lines=tuple(filter(None, (column.title, "synthetic" if column.synthetic else ""))),
                    links=(("page of this task", task_page(board.modality, column.task)),),
                ),
                cells=tuple(
                    Text(lines=(text,))
                    for text in (
                        ", ".join(column.classes),
                        f"{column.groups:,} {plural(column.group_kind, column.groups)}",
                        f"{column.samples:,}",
                        column.partial or f"{column.images:,}",
                        split_in_words(column),
                        column.leakage,
                        column.data,
                    )
                ),
            )
            for column in board.columns
        ),
    )


def tabulate_costs(board: Board) -> Table:
    return plain_table(
        "Cost of pretraining",
        "Means over the seeds of a row. The twin costs nothing: it is not trained.",
        (
            *("Encoder", "FLOPs allowed", "FLOPs spent", "Steps", "Images seen", "Passes over the corpus"),
            *("Time", "Device", "Memory", "Status"),
        ),
        (
            (
                cost.name,
                flops(cost.budget_flops),
                flops(cost.realised_flops),
                f"{cost.steps:,.0f}",
                f"{cost.images_seen:,.0f}",
                passes(cost.images_seen, board.corpus_images),
                duration(cost.seconds),
                ", ".join(cost.devices),
                memory(cost.memory_bytes),
                cost.status,
            )
            for cost in board.costs
        ),
    )
