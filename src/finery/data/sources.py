"""Rows out of files that are not JSONL: CSV, TSV, JSON arrays, Parquet, Arrow, and folders of them. One row at a time.

It does not know what the rows mean. Parquet and Arrow need pyarrow, which is installed apart.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from finery.core.errors import InvalidRequest
from finery.data.rows import MAX_LINE_BYTES, iterate

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")

_BLOCK_CHARACTERS = 1 << 20
_DELIMITERS = ",;\t|"

csv.field_size_limit(MAX_LINE_BYTES)


def read_rows(source: Path, split: str = "train") -> Iterator[dict[str, Any]]:
    """Every row of a file, told by its suffix, or of a folder's files (those whose path names the split, if any does).

    Raises:
        InvalidRequest: no such file, an unknown suffix, a broken file, or pyarrow is missing.
    """
    if source.is_dir():
        for path in _files(source, split):
            yield from read_rows(path)
        return
    if not source.is_file():
        raise InvalidRequest(f"There is no file {source.name}.")
    suffix = source.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from (row for _, row in iterate(source))
    elif suffix == ".json":
        yield from _json_rows(source)
    elif suffix in (".csv", ".tsv"):
        yield from _csv_rows(source)
    elif suffix in (".parquet", ".arrow"):
        yield from _arrow_rows(source)
    else:
        raise InvalidRequest(f"{source.name} is none of {', '.join(SUFFIXES)}; rename it to what it is.")


def _files(folder: Path, split: str) -> list[Path]:
    """The data files of a folder, in the order of their names; those of the split where paths name one."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    files = [path for path in files if path.name not in ("dataset_info.json", "state.json", "dataset_dict.json")]
    of_split = [path for path in files if split in path.relative_to(folder).as_posix().lower()]
    if not files:
        raise InvalidRequest(f"The folder {folder.name} holds no file of {', '.join(SUFFIXES)}.")
    return of_split or files


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline(MAX_LINE_BYTES)
            file.seek(0)
            delimiter = "\t" if path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=header.count)
            for row in csv.DictReader(file, delimiter=delimiter, strict=True):
                # A short line lacks columns, a long one has more than the header: neither can be trusted.
                yield {} if None in row or None in row.values() else dict(row)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} is not UTF-8 (byte {error.start + 1}); save it as UTF-8.") from None
    except csv.Error as error:
        raise InvalidRequest(f"{path.name} is no sound CSV: {error}.") from None


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON array, read piece by piece."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        with path.open(encoding="utf-8-sig") as file:
            buffer, place, number = file.read(_BLOCK_CHARACTERS), 0, 0
            place = _skip(buffer, 0)
            if buffer[place : place + 1] != "[":
                raise InvalidRequest(f"{path.name} is no JSON array; one object a line is .jsonl.")
            place += 1
            while True:
                place = _skip(buffer, place, ",")
                if buffer[place : place + 1] == "]":
                    return
                try:
                    row, end = decoder.raw_decode(buffer, place)
                except json.JSONDecodeError as error:
                    more = file.read(_BLOCK_CHARACTERS)
                    if not more or len(buffer) - place > 2 * MAX_LINE_BYTES:
                        raise InvalidRequest(f"{path.name}: after {number} rows: {error.msg}.") from None
                    buffer, place = buffer[place:] + more, 0
                    continue
                place, number = end, number + 1
                yield row if isinstance(row, dict) else {}
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} is not UTF-8 (byte {error.start + 1}); save it as UTF-8.") from None
    except (RecursionError, ValueError) as error:
        raise InvalidRequest(f"{path.name} can't be read: {error}.") from None


def _skip(buffer: str, place: int, also: str = "") -> int:
    while place < len(buffer) and (buffer[place].isspace() or buffer[place] in also):
        place += 1
    return place


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise InvalidRequest(
            f"{path.name} needs pyarrow, which is not installed: pip install pyarrow, or convert it to JSONL or CSV."
        ) from None
    try:
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256):
                    yield from batch.to_pylist()
            return
        with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
            for batch in stream:
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidRequest(f"{path.name} can't be read as {path.suffix[1:].title()}: {error}.") from None
