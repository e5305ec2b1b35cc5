"""Opens the arrays of `pyfast-mmcl cluster`: .npy and stored .npz memory-mapped, .parquet through pyarrow."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import InputError, unknown_name

# A zip entry's local header: 30 fixed bytes, the lengths of name and extra field at 26 and 28.
_LOCAL_HEADER = 30


# Axes of rows [N, D], of grey images [N, H, W] and of images [N, C, H, W].
VECTORS, IMAGES = (2,), (3, 4)


def open_rows(
    path: Path, *, key: str | None = None, columns: Sequence[str] = (), axes: Sequence[int] = VECTORS
) -> tuple[np.ndarray, str]:
    """The array [N, D], [N, H, W] or [N, C, H, W] in `path` and one sentence on how it was opened.

    Args:
        path: .npy, .npz or .parquet file.
        key: name of the .npz member; needed only where the file holds several arrays with as many axes as in `axes`.
        columns: .parquet columns to use; all numeric ones by default.
        axes: numbers of axes that a .npz member may have without being named.
    Raises:
        InputError: unknown ending, damaged file, no such member or column, not rows of numbers.
        OSError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if key is not None and suffix != ".npz":
        raise InputError(f"--key names a member of a .npz file, but {path.name} is not one; leave --key out.")
    if columns and suffix != ".parquet":
        raise InputError(f"--columns names columns of a .parquet file, but {path.name} is not one; leave it out.")
    if suffix == ".npy":
        rows, how = _open_npy(path)
    elif suffix == ".npz":
        rows, how = _open_npz(path, key, axes)
    elif suffix == ".parquet":
        rows, how = _open_parquet(path, list(columns))
    else:
        raise InputError(f"{path}: expected a .npy, .npz or .parquet file, got {suffix or 'no ending'}.")
    return _checked(rows, path), how


def _checked(rows: np.ndarray, path: Path) -> np.ndarray:
    if rows.ndim not in (*VECTORS, *IMAGES):
        raise InputError(
            f"{path}: expected rows [N, D] or images [N, C, H, W], got shape {list(rows.shape)}; save it reshaped to "
            "two axes."
        )
    if 0 in rows.shape:
        raise InputError(f"{path}: expected at least one row and one column, got shape {list(rows.shape)}.")
    if rows.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected real numbers, got dtype {rows.dtype}; save it as float32.")
    return rows


def _open_npy(path: Path) -> tuple[np.ndarray, str]:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a complete .npy array of numbers ({error}).") from error
    if not isinstance(rows, np.ndarray):
        raise InputError(f"{path}: expected a .npy array, got an archive of arrays; rename it to .npz.")
    return rows, "memory-mapped"


def _open_npz(path: Path, key: str | None, axes: Sequence[int]) -> tuple[np.ndarray, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entry = _member(archive, path, key, axes)
            if entry.compress_type == zipfile.ZIP_STORED:
                return _map_stored(path, entry), f"member {entry.filename[:-4]!r} memory-mapped"
            rows = np.load(path, allow_pickle=False)[entry.filename[:-4]]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a complete .npz archive of number arrays ({error}).") from error
    size = rows.nbytes / 2**20
    return rows, (
        f"member {entry.filename[:-4]!r} is compressed and was read into memory ({size:.0f} MiB); "
        "save it as .npy or with numpy.savez to have it memory-mapped"
    )


def _member(archive: zipfile.ZipFile, path: Path, key: str | None, axes: Sequence[int]) -> zipfile.ZipInfo:
    entries = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
    if key is not None:
        if key not in entries:
            raise unknown_name(f"array in {path.name}", key, entries)
        return entries[key]
    found: dict[int, list[str]] = {}
    for name, info in entries.items():
        with archive.open(info) as member:
            found.setdefault(len(_header(member)[0]), []).append(name)
    # Plain rows where there is nothing else: whether they may be images is for others to say.
    fitting = [name for n in axes for name in found.get(n, [])] or found.get(2, [])
    if len(fitting) != 1:
        listed = f"{len(fitting)} ({', '.join(fitting)})" if fitting else "none"
        wanted = " or ".join(map(str, axes))
        raise InputError(f"{path}: expected one array of {wanted} axes, found {listed}; choose with --key.")
    return entries[fitting[0]]


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _map_stored(path: Path, entry: zipfile.ZipInfo) -> np.ndarray:
    with path.open("rb") as stream:
        stream.seek(entry.header_offset)
        local = stream.read(_LOCAL_HEADER)
        if len(local) < _LOCAL_HEADER:
            raise EOFError("the file ends inside a header")
        stream.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        return np.memmap(path, dtype=dtype, mode="r", offset=stream.tell(), shape=shape, order="F" if fortran else "C")


def _open_parquet(path: Path, columns: list[str]) -> tuple[np.ndarray, str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{path}: reading .parquet needs pyarrow ({error}); install pyfast_mmcl[parquet] or save the rows as .npy."
        ) from error
    # Opened by hand first: pyarrow's own errors for a missing file carry no errno.
    with path.open("rb"):
        pass
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            names = columns or _numeric(file.schema_arrow)
            for name in names:
                if name not in file.schema_arrow.names:
                    raise unknown_name(f"column in {path.name}", name, file.schema_arrow.names)
            table = file.read(columns=names)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a complete .parquet file ({error}).") from error
    if not names:
        raise InputError(f"{path}: found no numeric column; name the columns to use with --columns.")
    return _stack(table, path), f"{len(names)} of {len(file.schema_arrow.names)} columns read into memory"


def _numeric(schema: Any) -> list[str]:
    from pyarrow import types

    def usable(kind: Any) -> bool:
        inner = kind.value_type if types.is_list(kind) or types.is_fixed_size_list(kind) else kind
        return types.is_floating(inner) or types.is_integer(inner)

    return [field.name for field in schema if usable(field.type)]


def _stack(table: Any, path: Path) -> np.ndarray:
    """Number columns side by side; a list column contributes as many features as its rows are long."""
    from pyarrow import types

    parts = []
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if column.null_count:
            raise InputError(f"{path}: column {name!r} has {column.null_count} missing values; fill or drop them.")
        if types.is_list(column.type) or types.is_fixed_size_list(column.type):
            values = column.flatten().to_numpy(zero_copy_only=False)
            if len(column) == 0 or len(values) % len(column) or len(set(column.value_lengths().to_pylist())) != 1:
                raise InputError(f"{path}: the lists in column {name!r} differ in length; expected one length D.")
            parts.append(values.reshape(len(column), -1))
        else:
            parts.append(column.to_numpy(zero_copy_only=False)[:, None])
    try:
        return np.concatenate(parts, axis=1)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the chosen columns are not all numbers ({error}).") from error
