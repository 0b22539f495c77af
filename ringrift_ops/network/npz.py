"""NPZ files whose arrays can be memory-mapped: stored, not compressed, every array 64-byte aligned.

``numpy.load`` reads them like any NPZ; ``map_arrays`` maps them without reading. Arrays are written
as a stream, so that a dataset larger than memory can be made. Nothing in them needs pickle.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ringrift_ops.errors import NoDataError
from ringrift_ops.store import WriteError

ALIGN: Final = 64
CHUNK: Final = 1 << 20
LOCAL_HEADER: Final = 30
ZIP64_FIELD: Final = 20
"""Bytes that zipfile adds to a local header when it is told that a member may be large."""
PADDING_ID: Final = 0xD935
"""Id of an extra field that holds nothing but zeros (Android's zipalign uses it so)."""


class DamagedArraysError(NoDataError):
    """The file is no whole NPZ of stored arrays."""


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _open_member(archive: zipfile.ZipFile, file: BinaryIO, name: str) -> Any:
    """A member whose data begin at a multiple of ALIGN; the same content gives the same bytes."""
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_STORED
    member.external_attr = 0o600 << 16
    start = file.tell() + LOCAL_HEADER + len(member.filename) + ZIP64_FIELD
    padding = -(start + 4) % ALIGN
    member.extra = struct.pack("<HH", PADDING_ID, padding) + bytes(padding)
    return archive.open(member, "w", force_zip64=True)


class ArrayFile:
    """One array on its way into an NPZ: raw rows in a file of their own, shape known at the end."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.rows = 0
        with self._named():
            self._file = path.open("wb")

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append rows [k, *row_shape]; they are converted to the array's type. Raises WriteError."""
        block = np.ascontiguousarray(rows, dtype=self.dtype)
        if block.shape[1:] != self.row_shape:
            raise ValueError(f"rows of {self.path.name} have shape {self.row_shape}, not {block.shape[1:]}")
        with self._named():
            self._file.write(block.data if block.size else b"")
        self.rows += len(block)

    def close(self) -> None:
        """Finish writing. Raises WriteError."""
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(self.path, error) from error


class ArrayStreams(ABC):
    """Streams arrays into the NPZ at ``path``, which appears when the ``with`` block ends without an error.

    ``kinds``: type and row shape of each array by name; one file each, in a hidden folder beside ``path`` until then.
    Raises WriteError.
    """

    def __init__(self, path: Path, kinds: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            raise WriteError(path, error) from error
        self._streams = {name: ArrayFile(self._folder / name, dtype, shape) for name, (dtype, shape) in kinds.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for stream in self._streams.values():
                stream.close()
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._folder)

    @abstractmethod
    def _finish(self) -> None:
        """Write the file from the closed streams."""


def write_npz(target: BinaryIO, streams: Mapping[str, ArrayFile], small: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an NPZ of streamed and small arrays into an open, seekable file. Streams must be closed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        write_members(archive, target, streams, small)


def write_members(
    archive: zipfile.ZipFile,
    target: BinaryIO,
    streams: Mapping[str, ArrayFile],
    small: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write the arrays into an archive that is being written to ``target``."""
    for name, array in small.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name} holds objects; they would need pickle")
        with _open_member(archive, target, name) as member:
            member.write(_npy_header(array.dtype, array.shape))
            member.write(np.ascontiguousarray(array).tobytes())
    for name, stream in streams.items():
        with _open_member(archive, target, name) as member, stream.path.open("rb") as source:
            member.write(_npy_header(stream.dtype, (stream.rows, *stream.row_shape)))
            while chunk := source.read(CHUNK):
                member.write(chunk)


def map_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of such a file, memory-mapped read-only (0-d and empty ones are read).

    Raises DamagedArraysError: no zip file, truncated, compressed, or an array that needs pickle.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            size = path.stat().st_size
            for member in archive.infolist():
                arrays[member.filename.removesuffix(".npy")] = _map_member(path, file, member, size)
    except (zipfile.BadZipFile, ValueError, struct.error, EOFError, NotImplementedError) as error:
        raise DamagedArraysError(f"{path} is no whole NPZ file of stored arrays: {error}") from error
    return arrays


def _map_member(path: Path, file: BinaryIO, member: zipfile.ZipInfo, size: int) -> npt.NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER)
    if len(header) != LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ValueError(f"{member.filename} has no local header")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = member.header_offset + LOCAL_HEADER + name_length + extra_length
    file.seek(start)
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{member.filename} is of npy version {version}")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    if dtype.hasobject or fortran:
        raise ValueError(f"{member.filename} holds objects or is in Fortran order")
    offset = file.tell()
    length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if offset - start + length != member.file_size or offset + length > size:
        raise ValueError(f"{member.filename} is shorter than its shape {shape}")
    if length == 0 or shape == ():
        return np.frombuffer(file.read(length), dtype=dtype).reshape(shape)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
