"""A table of images: a CSV or Parquet file with a row for each image, that has its file, its label or labels, and its split.

Columns are Arrow arrays and never Python lists: ten million rows take little more memory than the text of their paths.
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
# A table's digest has the size and the time of change of at most this many of its files, evenly spaced: more take minutes.
MOST_STATUSES = 100_000
# What separates the columns of a table of text: the first of these that its header has.
_DELIMITERS = (",", ";", "\t")
# A number with a fraction or an exponent, by which a column of numbers differs from one of names.
_FRACTION = r"^[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# The splits as they are published, and the position of train among them.
_SPLITS = ("train", "validation", "test")
_TRAIN = 0


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Attributes:
      image: the column of the images' files.
      label: the column of the classes or of a number; several names are columns of numbers, or of 0 and 1.
      split: the column of the splits; None draws them.
    """

    image: str = "path"
    label: str | tuple[str, ...] = "label"
    split: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The label's columns."""
        return (self.label,) if isinstance(self.label, str) else self.label


@dataclasses.dataclass(frozen=True)
class Table:
    """A table's content, checked.

    Attributes:
      root: the folder that files are relative to, the table's own.
      files: the distinct files, as the table has them.
      file: each row's file, as a position among `files`.
      labels: each row's label.
      label_names: the names of the classes, or of the label's columns.
      splits: the rows of each split, in the table's order.
      remarks: what its user should know, a line each.
      digest: changes when a row, a file's size or time of change, or a drawn split changes.
      masks: the distinct files of label maps, of which a row's label is a position; None where labels are no files.
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
        """The path of a row's label map; None where labels are no files."""
        return None if self.masks is None else self.root / self.masks[int(self.labels[row, 0])].as_py()


def is_table(name: str) -> bool:
    """Whether a data set's name means a table.

    >>> [is_table(name) for name in ("labels.csv", "./scans/Labels.Parquet", "digits", "photos/")]
    [True, True, False, False]
    """
    return name.lower().endswith(SUFFIXES) and not Path(name).expanduser().is_dir()


def read_table(path: Path, columns: Columns, seed: int, skip_missing: bool) -> Table:
    """Reads a table, checks it, and draws the splits that it does not have.

    One label column of texts or whole numbers holds classes, in the order of the alphabet or of the numbers; one of numbers
    with a fraction holds values, (row,) of float32. Several label columns, or a tuple of one, are (row, column): uint8
    where all are 0 and 1, or else float32.

    Args:
      path: the table's file.
      columns: the names of its columns.
      seed: the seed that draws a tenth for validation and a tenth for the test, of every class alike, where they are absent.
      skip_missing: leave out the rows whose file does not exist, rather than refuse the table.

    Raises:
      FileNotFoundError: the table, or a file that it names, does not exist.
      ValueError: a column is absent, or a cell is empty or of a wrong kind; the message has the rows.
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
        remarks.append(f"{where}: its column 'split' is not used: dataset.split_column='split' uses it")
    missing = ~_exist(path.parent, files)
    if missing.any():
        names = ", ".join(files[int(position)].as_py() for position in np.flatnonzero(missing)[:3])
        line = f"{where}: {missing.sum()} of {len(files)} files do not exist beside it, in {path.parent}: {names}"
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
    """Some columns of a table, by name, as chunked Arrow arrays, texts where it is a CSV file; and the names of all."""
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
        reason = "it is not UTF-8, save it as UTF-8" if coded else str(error).splitlines()[0]
        raise ValueError(f"table {path} cannot be read: {reason}") from None
    if not table.num_rows:
        raise ValueError(f"table {path} has no rows")
    return {name: table.column(name) for name in table.column_names}, header


def _header(path: Path) -> tuple[list[str], str]:
    """The names of a CSV file's columns, and what separates them."""
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
            raise ValueError(f"table {path}: column {name!r} is named twice: each column has one use and one name")


def _texts(column: Any, name: str, where: str) -> Any:
    """A column's cells as text without white space around it, none empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise pa.ArrowInvalid
        texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # Arrow's word for types that have no text
        raise ValueError(f"{where}: column {name!r} holds {column.type}: expected texts or numbers") from None
    empty = pc.fill_null(pc.equal(texts, ""), True)
    if pc.any(empty).as_py():
        raise ValueError(f"{where}: column {name!r} is empty in {_rows(empty)}: fill the cells, or remove the rows")
    return texts


def _rows(chosen: Any) -> str:
    """The rows where an array is true, counted and the first three numbered as a spreadsheet numbers them."""
    rows = np.flatnonzero(np.asarray(chosen)) + 2
    if len(rows) == 1:
        return f"row {rows[0]} (the header is row 1)"
    return f"{len(rows)} rows ({', '.join(map(str, rows[:3]))}{', ...' if len(rows) > 3 else ''}; the header is row 1)"


def _mask_files(read: dict[str, Any], columns: Columns, where: str) -> tuple[Any, Int[np.ndarray, "row"]] | None:
    """The distinct files of a column of label maps, and each row's place among them; None where the labels are no image files."""
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
    """Raises FileNotFoundError if a label map's file does not exist."""
    missing = np.flatnonzero(~_exist(root, masks))
    if len(missing):
        names = ", ".join(masks[int(position)].as_py() for position in missing[:3])
        raise FileNotFoundError(
            f"{where}: {len(missing)} of {len(masks)} masks do not exist beside it, in {root}: {names}"
        )


def _labels(
    read: dict[str, Any], columns: Columns, where: str
) -> tuple[Shaped[np.ndarray, "row ..."], tuple[str, ...]]:
    """Every row's label, and the names of the classes or columns; the columns are taken out of what was read."""
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
    """A column's numbers, whole ones as int64 and others as float64; None if a cell is none."""
    import pyarrow as pa

    if pa.types.is_floating(column.type) or pa.types.is_decimal(
        column.type
    ):  # 1.0 of a Parquet file is no whole number
        return column.cast(pa.float64()).to_numpy()
    for kind in (pa.int64(), pa.float64()):
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(kind).to_numpy()
    return None


def _values(numbers: np.ndarray | None, texts: Any, name: str, where: str) -> Float[np.ndarray, "row"]:
    """A column's numbers, or its true and false, as float32.

    Raises:
      ValueError: a cell is no number, or none that float32 holds; the message has the rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if numbers is None:
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(pa.bool_()).to_numpy().astype(np.float32)
        wrong, what = ~np.asarray(pc.match_substring_regex(texts, _NUMBER)), "holds no number"
        values = np.zeros(0, np.float32)
    else:
        with np.errstate(over="ignore"):
            values = numbers.astype(np.float32)
        wrong, what = ~np.isfinite(values), "holds no finite number"
    if wrong.any():
        raise ValueError(f"{where}: column {name!r} {what} in {_rows(wrong)}: {texts[int(wrong.argmax())].as_py()!r}")
    return values


def _classes(
    texts: Any, numbers: Int[np.ndarray, "row"] | None, name: str, where: str
) -> tuple[Int[np.ndarray, "row"], tuple[str, ...]]:
    """Class numbers, and the classes' names: whole numbers in their order, texts in that of the alphabet.

    Raises:
      ValueError: there is one class, or there are more than `subsets.MOST_CLASSES`; or some texts are numbers with a fraction.
    """
    import pyarrow.compute as pc

    if numbers is not None:
        distinct, labels = np.unique(numbers, return_inverse=True)
    else:
        fractions = np.asarray(pc.match_substring_regex(texts, _FRACTION))
        if fractions.any():  # a column of numbers, with a slip
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
            f"{where}: column {name!r} holds {count:,} texts or whole numbers, which would each be a class: name another column, "
            f"or, for regression, name it in a tuple: dataset.label_column=({name!r},)"
        )


def _encoded(column: Any) -> tuple[Any, Int[np.ndarray, "row"]]:
    """A column's distinct values in the order of their first rows, and each row's place among them."""
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
    """The remarks, a line each, on files that have several rows."""
    if len(files) == len(file):
        return
    first = np.empty(len(files), np.int64)
    first[file[::-1]] = np.arange(len(file))[::-1]  # of a file's rows the first, which is written last
    first = first[file]
    again = first != np.arange(len(file))
    changed = again & (labels != labels[first]).reshape(len(labels), -1).any(1)
    moved = again & (given != given[first]) if given is not None else np.zeros(len(file), bool)
    for rows, what in (
        (again & ~changed & ~moved, "are repeated"),
        (changed, "give a file another label than an earlier row"),
        (moved, "have a file of another split: figures of that split are not of unseen images"),
    ):
        if rows.any():
            yield f"{where}: {rows.sum()} of {len(file)} rows {what}, the first {files[int(file[rows.argmax()])].as_py()}"


def _exist(root: Path, files: Any) -> Bool[np.ndarray, "file"]:
    """Whether each file exists: every folder is listed once, rather than every file asked for."""
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
    """The names of a folder's files, as an Arrow array; of a folder that does not exist, none."""
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
    """The rows of each split; validation and test are drawn from train, a file's rows together, where the table has none."""
    split = np.zeros(len(rows), np.int8) if given is None else given[rows]
    absent = [number for number in range(len(_SPLITS)) if not (split == number).any()]
    if _TRAIN in absent:
        raise ValueError(f"{where}: no row is of the split train, of {len(rows)}")
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
    """A digest of what a table holds, and of the sizes and times of change of its files, or of `MOST_STATUSES` of them."""
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
