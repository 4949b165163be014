"""A table of images: a CSV or Parquet file with a row for each image, with its file, its label or labels, and its split.

Columns are Arrow arrays, never Python lists: ten million rows take little more memory than the text of their paths.
"""

import contextlib
import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from cnnjax.core.options import unknown
from cnnjax.data import folders, subsets
from cnnjax.data.map_folders import CLASSES_FILE, read_classes

SUFFIXES = (".csv", ".tsv", ".parquet")
# A table's digest includes the size and modification time of at most this many of its files, evenly spaced; more take minutes.
MOST_STATUSES = 100_000
# The possible delimiters of a text table; the first that its header contains is used.
_DELIMITERS = (",", ";", "\t")
# A number with a fraction or an exponent, which distinguishes a column of numbers from one of names.
_FRACTION = r"^[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# The published names of the splits, and the position of train among them.
_SPLITS = ("train", "validation", "test")
_TRAIN = 0


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Attributes:
      image: the column of the image files.
      label: the column of the classes or of a number; several names are columns of numbers, or of 0 and 1.
      split: the column of the splits; None draws them.
    """

    image: str = "path"
    label: str | tuple[str, ...] = "label"
    split: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of the label."""
        return (self.label,) if isinstance(self.label, str) else self.label


@dataclasses.dataclass(frozen=True)
class Table:
    """The checked content of a table.

    Attributes:
      root: the folder of the table, to which files are relative.
      files: the distinct files, as written in the table.
      file: the position in `files` of each row's file.
      labels: the label of each row.
      label_names: the names of the classes, or of the label's columns.
      splits: the rows of each split, in the table's order.
      remarks: the remarks for the user, one line each.
      digest: a digest that changes if a row, a file's size or modification time, or a drawn split changes.
      masks: the distinct mask files, in which a row's label is a position; None if labels are not files.
    """

    root: Path
    files: Any
    file: Int[np.ndarray, "row"]
    labels: Shaped[np.ndarray, "row ..."]
    label_names: tuple[str, ...]
    splits: Mapping[str, Int[np.ndarray, "chosen"]]
    remarks: tuple[str, ...]
    digest: str
    masks: Any = None

    def path(self, row: int) -> Path:
        """The path of a row's image."""
        return self.root / self.files[int(self.file[row])].as_py()

    def mask(self, row: int) -> Path | None:
        """The path of a row's mask; None if labels are not files."""
        return None if self.masks is None else self.root / self.masks[int(self.labels[row, 0])].as_py()


def is_table(name: str) -> bool:
    """Whether a data set's name is that of a table.

    >>> [is_table(name) for name in ("labels.csv", "./scans/Labels.Parquet", "digits", "photos/")]
    [True, True, False, False]
    """
    return name.lower().endswith(SUFFIXES) and not Path(name).expanduser().is_dir()


def read_table(path: Path, columns: Columns, seed: int, skip_missing: bool) -> Table:
    """Reads a table, checks it, and draws the missing splits.

    One label column of text or integers holds classes, in alphabetical or numerical order; one of numbers
    with a fraction holds values, (row,) in float32. Several label columns, or a tuple of one, are (row, column): uint8
    if all are 0 and 1, otherwise float32.

    Args:
      path: the path of the table.
      columns: the names of its columns.
      seed: the seed that draws a tenth of each class for validation and a tenth for test, if they are absent.
      skip_missing: whether to leave out rows whose file does not exist instead of refusing the table.

    Raises:
      FileNotFoundError: the table, or a file that it names, does not exist.
      ValueError: a column is absent, or a cell is empty or invalid; the message names the rows.
    """
    read, header = _read(path, [columns.image, *columns.labels, *([columns.split] if columns.split else [])])
    where = f"table {path.name}"
    masks = _mask_files(read, columns, where)
    if masks is None:
        labels, label_names = _labels(read, columns, where)
    else:
        labels, label_names = masks[1][:, None], read_classes(path.with_name(CLASSES_FILE))
        _check_masks(path.parent, masks[0], where)
    given = None if columns.split is None else _given_splits(read.pop(columns.split), columns.split, where)
    files, file = _encoded(_texts(read.pop(columns.image), columns.image, where))
    remarks = [*_repeated(files, file, labels, given, where)]
    if given is None and "split" in header:
        remarks.append(f"{where}: the column 'split' is not used: to use it, set dataset.split_column='split'")
    missing = ~_exist(path.parent, files)
    if missing.any():
        names = ", ".join(files[int(position)].as_py() for position in np.flatnonzero(missing)[:3])
        line = (
            f"{where}: {missing.sum()} of {len(files)} files do not exist in the table's folder, {path.parent}: {names}"
        )
        if not skip_missing:
            raise FileNotFoundError(f'{line} (dataset.unreadable="skip" leaves their rows out)')
        remarks.append(f"{line}; their rows are left out")
    rows = np.flatnonzero(~missing[file])
    splits = _splits(rows, file, labels, given, seed, where)
    if label_names and subsets.are_classes(labels):
        absent = np.flatnonzero(np.bincount(labels[splits["train"]], minlength=len(label_names)) == 0)
        if len(absent):
            names = ", ".join(label_names[index] for index in absent[:3])
            remarks.append(f"{where}: {len(absent)} of {len(label_names)} classes have no training example: {names}")
    digest = _digest(path.parent, files, missing, [file, labels, *splits.values()], label_names)
    if masks is None:
        return Table(path.parent, files, file, labels, label_names, splits, tuple(remarks), digest)
    of_masks = _digest(path.parent, masks[0], np.zeros(len(masks[0]), bool), [], ())
    return Table(
        path.parent, files, file, labels, label_names, splits, tuple(remarks), f"{digest}-{of_masks}", masks[0]
    )


def _read(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], Sequence[str]]:
    """Some columns of a table by name, as chunked Arrow arrays (of text for a CSV file), and the names of all columns."""
    import pyarrow as pa

    if not path.is_file():
        raise FileNotFoundError(f"table {path} does not exist")
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                header = file.schema_arrow.names
                _check_columns(path, names, header)
                table = file.read(columns=[*dict.fromkeys(names)])
        else:
            from pyarrow import csv as arrow_csv

            header, delimiter = _header(path)
            _check_columns(path, names, header)
            with arrow_csv.open_csv(
                path,
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=[*dict.fromkeys(names)],
                    column_types=dict.fromkeys(names, pa.large_string()),
                    strings_can_be_null=False,
                ),
            ) as reader:
                table = reader.read_all()
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        coded = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
        reason = "it is not UTF-8: save it as UTF-8" if coded else str(error).splitlines()[0]
        raise ValueError(f"table {path} cannot be read: {reason}") from None
    if not table.num_rows:
        raise ValueError(f"table {path} has no rows")
    return {name: table.column(name) for name in table.column_names}, header


def _header(path: Path) -> tuple[list[str], str]:
    """The names of a CSV file's columns, and the delimiter."""
    with open(path, "rb") as file:
        first = file.readline().decode("utf-8-sig")
    delimiter = next((sign for sign in _DELIMITERS if sign in first), ",")
    return next(csv.reader([first], delimiter=delimiter), []), delimiter


def _check_columns(path: Path, names: Sequence[str], found: Sequence[str]) -> None:
    if not found:
        raise ValueError(f"table {path} is empty")
    for name in names:
        if name not in found:
            raise ValueError(
                f"table {path}: {unknown('column', name, found)} (dataset.image_column, label_column and split_column name them)"
            )
        if names.count(name) > 1 or found.count(name) > 1:
            raise ValueError(f"table {path}: column {name!r} is named twice: give each column one use and one name")


def _texts(column: Any, name: str, where: str) -> Any:
    """The cells of a column as text without surrounding white space; none may be empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise pa.ArrowInvalid
        texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # raised by Arrow for types without a text form
        raise ValueError(f"{where}: column {name!r} holds {column.type}: expected text or numbers") from None
    empty = pc.fill_null(pc.equal(texts, ""), True)
    if pc.any(empty).as_py():
        raise ValueError(f"{where}: column {name!r} is empty in {_rows(empty)}: fill the cells, or remove the rows")
    return texts


def _rows(chosen: Any) -> str:
    """The rows where an array is true: their count, and the first three by their numbers in a spreadsheet."""
    rows = np.flatnonzero(np.asarray(chosen)) + 2
    if len(rows) == 1:
        return f"row {rows[0]} (the header is row 1)"
    return f"{len(rows)} rows ({', '.join(map(str, rows[:3]))}{', ...' if len(rows) > 3 else ''}; the header is row 1)"


def _mask_files(read: dict[str, Any], columns: Columns, where: str) -> tuple[Any, Int[np.ndarray, "row"]] | None:
    """The distinct files of a column of masks, and each row's position in them; None if the labels are not image files."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(columns.label, str):
        return None
    column = read[columns.label]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return None
    endings = "|".join(ending.removeprefix(".") for ending in sorted(folders.EXTENSIONS))
    if not pc.all(pc.match_substring_regex(column, rf"(?i)\.({endings})\s*$"), skip_nulls=False).as_py():
        return None
    return _encoded(_texts(read.pop(columns.label), columns.label, where))


def _check_masks(root: Path, masks: Any, where: str) -> None:
    """Raises FileNotFoundError if a mask does not exist."""
    missing = np.flatnonzero(~_exist(root, masks))
    if len(missing):
        names = ", ".join(masks[int(position)].as_py() for position in missing[:3])
        raise FileNotFoundError(
            f"{where}: {len(missing)} of {len(masks)} masks do not exist in the table's folder, {root}: {names}"
        )


def _labels(
    read: dict[str, Any], columns: Columns, where: str
) -> tuple[Shaped[np.ndarray, "row ..."], tuple[str, ...]]:
    """The label of every row, and the names of the classes or columns; removes the columns from `read`."""
    if isinstance(columns.label, str):
        column = read.pop(columns.label)
        texts = _texts(column, columns.label, where)
        numbers = _numbers(column, texts)
        if numbers is not None and numbers.dtype.kind == "f":
            return _values(numbers, texts, columns.label, where), ()
        return _classes(texts, numbers, columns.label, where)
    values = []
    for name in columns.label:
        column = read.pop(name)
        texts = _texts(column, name, where)
        values.append(_values(_numbers(column, texts), texts, name, where))
    rows = np.stack(values, 1)
    return rows.astype(np.uint8) if ((rows == 0) | (rows == 1)).all() else rows, tuple(columns.label)


def _numbers(column: Any, texts: Any) -> np.ndarray | None:
    """A column's numbers, integers as int64 and others as float64; None if a cell is not a number."""
    import pyarrow as pa

    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):  # 1.0 in a Parquet file is not an integer
        return column.cast(pa.float64()).to_numpy()
    for kind in (pa.int64(), pa.float64()):
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(kind).to_numpy()
    return None


def _values(numbers: np.ndarray | None, texts: Any, name: str, where: str) -> Float[np.ndarray, "row"]:
    """A column's numbers, or its true and false, as float32.

    Raises:
      ValueError: a cell is not a number, or not finite in float32; the message names the rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if numbers is None:
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(pa.bool_()).to_numpy().astype(np.float32)
        wrong, what = ~np.asarray(pc.match_substring_regex(texts, _NUMBER)), "does not hold a number"
        values = np.zeros(0, np.float32)
    else:
        with np.errstate(over="ignore"):
            values = numbers.astype(np.float32)
        wrong, what = ~np.isfinite(values), "does not hold a finite number"
    if wrong.any():
        raise ValueError(f"{where}: column {name!r} {what} in {_rows(wrong)}: {texts[int(wrong.argmax())].as_py()!r}")
    return values


def _classes(
    texts: Any, numbers: Int[np.ndarray, "row"] | None, name: str, where: str
) -> tuple[Int[np.ndarray, "row"], tuple[str, ...]]:
    """Class numbers, and the names of the classes: integers in numerical order, text in alphabetical order.

    Raises:
      ValueError: there is one class, or more than `subsets.MOST_CLASSES`; or some texts are numbers with a fraction.
    """
    import pyarrow.compute as pc

    if numbers is not None:
        distinct, labels = np.unique(numbers, return_inverse=True)
    else:
        fractions = np.asarray(pc.match_substring_regex(texts, _FRACTION))
        if fractions.any():  # a column of numbers with a wrong cell
            _values(None, texts, name, where)
        found, place = _encoded(texts)
        _check_classes(len(found), name, where)
        distinct = np.array(found.to_pylist(), object)
        order = sorted(range(len(distinct)), key=distinct.__getitem__)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order))
        distinct, labels = distinct[order], rank[place]
    _check_classes(len(distinct), name, where)
    return labels.astype(np.int32), tuple(map(str, distinct))


def _check_classes(count: int, name: str, where: str) -> None:
    if count == 1:
        raise ValueError(f"{where}: column {name!r} holds one class: expected two or more")
    if count > subsets.MOST_CLASSES:
        raise ValueError(
            f"{where}: column {name!r} holds {count:,} different texts or integers, too many for classes: name another column, "
            f"or, for regression, give a tuple: dataset.label_column=({name!r},)"
        )


def _encoded(column: Any) -> tuple[Any, Int[np.ndarray, "row"]]:
    """A column's distinct values in the order of their first rows, and each row's position in them."""
    encoded = column.dictionary_encode()  # into one dictionary for all chunks
    return encoded.chunk(0).dictionary, np.concatenate([np.asarray(chunk.indices) for chunk in encoded.chunks])


def _given_splits(column: Any, name: str, where: str) -> Int[np.ndarray, "row"]:
    """The split of every row, as a position in `_SPLITS`."""
    import pyarrow.compute as pc

    found, place = _encoded(pc.utf8_lower(_texts(column, name, where)))
    splits = [folders.SPLIT_FOLDERS.get(text.as_py()) for text in found]
    if None in splits:
        wrong = splits.index(None)
        raise ValueError(
            f"{where}: column {name!r} is {found[wrong].as_py()!r} in {_rows(place == wrong)}: expected train, valid or test"
        )
    return np.array([_SPLITS.index(split) for split in splits], np.int8)[place]


def _repeated(
    files: Any,
    file: Int[np.ndarray, "row"],
    labels: Shaped[np.ndarray, "row ..."],
    given: Int[np.ndarray, "row"] | None,
    where: str,
) -> Iterator[str]:
    """Remarks, one line each, on files with several rows."""
    if len(files) == len(file):
        return
    first = np.empty(len(files), np.int64)
    first[file[::-1]] = np.arange(len(file))[::-1]  # the first row of each file, which is written last
    first = first[file]
    again = first != np.arange(len(file))
    changed = again & (labels != labels[first]).reshape(len(labels), -1).any(1)
    moved = again & (given != given[first]) if given is not None else np.zeros(len(file), bool)
    for rows, what in (
        (again & ~changed & ~moved, "are repeated"),
        (changed, "give a file another label than an earlier row"),
        (moved, "have a file of another split: figures of that split are not measured on unseen images"),
    ):
        if rows.any():
            yield f"{where}: {rows.sum()} of {len(file)} rows {what}, the first {files[int(file[rows.argmax()])].as_py()}"


def _exist(root: Path, files: Any) -> Bool[np.ndarray, "file"]:
    """Whether each file exists, found by listing every folder once instead of checking every file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    directories, place = _encoded(pa.chunked_array([pc.replace_substring_regex(files, "[^/]*$", "")]))
    names = pc.replace_substring_regex(files, "^.*/", "")
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=len(directories)))
    found = np.zeros(len(files), bool)
    for directory, own in zip(directories, np.split(order, ends[:-1]), strict=True):
        found[own] = np.asarray(pc.is_in(names.take(pa.array(own)), value_set=_listed(root / directory.as_py())))
    return found


def _listed(directory: Path) -> Any:
    """The names of a folder's files, as an Arrow array, which is empty if the folder does not exist."""
    import pyarrow as pa

    parts = [pa.array([], pa.large_string())]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        names = (entry.name for entry in entries if entry.is_file())
        while part := [name for name, _ in zip(names, range(2**16), strict=False)]:
            parts.append(pa.array(part, pa.large_string()))
    return pa.concat_arrays(parts)


def _splits(
    rows: Int[np.ndarray, "kept"],
    file: Int[np.ndarray, "row"],
    labels: Shaped[np.ndarray, "row ..."],
    given: Int[np.ndarray, "row"] | None,
    seed: int,
    where: str,
) -> dict[str, Int[np.ndarray, "chosen"]]:
    """The rows of each split; if absent, validation and test are drawn from train, keeping the rows of a file together."""
    split = np.zeros(len(rows), np.int8) if given is None else given[rows]
    absent = [number for number in range(len(_SPLITS)) if not (split == number).any()]
    if _TRAIN in absent:
        raise ValueError(f"{where}: none of the {len(rows)} rows is in the split train")
    if absent:
        train = np.flatnonzero(split == _TRAIN)
        _, first, group = np.unique(file[rows[train]], return_index=True, return_inverse=True)
        drawn = np.full(len(first), _TRAIN, np.int8)
        names = [_SPLITS[number] for number in absent]
        for name, positions in subsets.drawn_splits(labels[rows[train[first]]], seed, names).items():
            drawn[positions] = _SPLITS.index(name)
        split[train] = drawn[group]
    splits = {name: rows[split == number] for number, name in enumerate(_SPLITS)}
    empty = [name for name, chosen in splits.items() if not len(chosen)]
    if empty:
        raise ValueError(
            f"{where}: {len(rows)} rows are too few to draw {' and '.join(empty)} from: give a column of splits, or 6 images or more"
        )
    return splits


def _digest(
    root: Path,
    files: Any,
    missing: Bool[np.ndarray, "file"],
    arrays: Iterable[np.ndarray],
    label_names: Sequence[str],
) -> str:
    """A digest of a table's content, and of the sizes and modification times of its files, or of `MOST_STATUSES` of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digest = hashlib.sha256(repr(label_names).encode())
    for start in range(0, len(files), 2**16):
        block = files.slice(start, 2**16)
        rows = pa.ListArray.from_arrays([0, len(block)], block)
        joined = pc.binary_join(rows, pa.scalar("\0", pa.large_string()))
        digest.update(joined[0].as_buffer())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    present = np.flatnonzero(~missing)
    for position in present[:: -(-len(present) // MOST_STATUSES)]:
        status = os.stat(os.path.join(root, files[int(position)].as_py()))
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
