"""All rows of one table of a large store, soon.

Rows of files seen before are kept together in `<root>/.compact/<table>.parquet`. That is derived, and never the truth:
a file that is new, of another size or of another time of change is read again, one that is gone is dropped, and
deleting the folder costs only time. `verify` and `repair` read the files themselves.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark.storage import results, unfinished

FROM = 1000  # files; fewer are read as they are
THREADS = 8
FOLDER = ".compact"
STAMP = pa.schema([("directory", pa.string()), ("changed", pa.int64()), ("size", pa.int64())])  # of a row's file


def rows(root: Path, name: str) -> pa.Table:
    """Every row of the table under root, with a column `directory`, in the order of the files. Raises SchemaError."""
    files = {str(path.parent.relative_to(root)): path for path in results.files(root, name)}
    large = len(files) >= FROM
    stamps = {directory: (about.st_mtime_ns, about.st_size) for directory, about in _about(files)}
    kept = _kept(root, name) if large else _empty(name)
    first = kept.select(STAMP.names).to_pandas().drop_duplicates("directory")
    known = {row.directory: (row.changed, row.size) for row in first.itertuples(index=False)}
    fresh = [directory for directory in files if known.get(directory) != stamps[directory]]
    if fresh or known.keys() != files.keys():
        with ThreadPoolExecutor(THREADS) as pool:
            read = list(pool.map(lambda one: _stamped(results.read_file(files[one]), one, stamps[one]), fresh))
        still = kept.filter(pc.is_in(kept["directory"], pa.array(files.keys() - set(fresh), pa.string())))
        kept = pa.concat_tables([still, *read])
        place = pc.index_in(kept["directory"], pa.array(files.keys(), pa.string()))
        kept = kept.take(pc.sort_indices(pa.table({"file": place, "row": pa.array(range(len(kept)))}), ORDER))
        if large:
            _keep(root, name, kept)
    directory = pc.binary_join_element_wise(str(root), kept["directory"], "/")
    return kept.drop_columns(STAMP.names).append_column("directory", directory)


ORDER = [("file", "ascending"), ("row", "ascending")]


def _about(files: dict[str, Path]) -> list[tuple[str, os.stat_result]]:
    return [(directory, path.stat()) for directory, path in files.items()]


def _stamped(table: pa.Table, directory: str, stamp: tuple[int, int]) -> pa.Table:
    for field, value in zip(STAMP, (directory, *stamp), strict=True):
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), len(table)))
    return table


def _empty(name: str) -> pa.Table:
    return pa.schema([*results.TABLES[name], *STAMP], results.TABLES[name].metadata).empty_table()


def _kept(root: Path, name: str) -> pa.Table:
    """What was put together before, if it is of this version and readable."""
    try:
        table = pq.ParquetFile(root / FOLDER / f"{name}.parquet").read()
    except (OSError, ValueError, pa.ArrowException):
        return _empty(name)
    wanted = _empty(name).schema
    same = table.schema.equals(wanted) and table.schema.metadata == wanted.metadata
    return table if same else _empty(name)


def _keep(root: Path, name: str, table: pa.Table) -> None:
    """For the next call; where the store may not be written to, that is no error."""
    target = root / FOLDER / f"{name}.parquet"
    part = unfinished.beside(target)
    try:
        target.parent.mkdir(exist_ok=True)
        pq.write_table(table, part, compression="zstd")
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
