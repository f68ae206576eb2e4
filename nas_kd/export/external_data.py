"""Reads the weights that an ONNX file keeps in other files, as exporters write `model.onnx` and `model.onnx.data`.

Only regular files in the model's own folder are opened, by their plain name: never a path, never a link.
https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from nas_kd.errors import InputError
from nas_kd.export.onnx_graph import tensors

# Bits of packed types that are smaller than a byte.
PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


def external_tensors(model: ModelProto) -> list[TensorProto]:
    """List the tensors whose values are in other files."""
    return [t for t in tensors(model) if t.data_location == TensorProto.EXTERNAL]


def embed_external_data(model: ModelProto, path: Path, taken: int, max_bytes: int) -> None:
    """Read all external weights into the model, which is then complete.

    Args:
        model: changed in place.
        path: of the model's file; the others are looked up in its folder.
        taken: size of the model's file in bytes.
        max_bytes: most that it and the others may have together.

    Raises:
        InputError: a file is missing, is none in this folder, or is too short; or they are too large.
    """
    found, left = external_tensors(model), max_bytes - taken
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_open(path, name)) for name in dict.fromkeys(map(_location, found))}
        for tensor in found:
            left -= _size(path, tensor)
            if left < 0:
                raise InputError(f"{path} and its external data are larger than {max_bytes / 1e9:g} GB")
            values = _values(path, tensor, opened[_location(tensor)])
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = values


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of a tensor's values as they are stored; strings by their own length."""
    kind = TensorProto.DataType.Name(tensor.data_type)
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    bits: int = PACKED_BITS.get(kind) or 8 * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-prod(map(int, tensor.dims)) * bits // 8)


def _location(tensor: TensorProto) -> str:
    return _entry(tensor.external_data, "location")


def _entry(entries: Iterable[object], key: str, default: str = "") -> str:
    return next((str(getattr(e, "value", "")) for e in entries if getattr(e, "key", None) == key), default)


def _open(path: Path, name: str) -> BinaryIO:
    """Open a file of the model's folder; the name comes from the model and is not trusted."""
    if not name or name in (".", "..") or any(c in name for c in ("/", "\\", "\0", ":")):
        raise InputError(
            f"{path} keeps weights in external data outside of its folder ({name!r}); only files beside it are read: "
            "save it again with its data beside it, or as one file (external_data=False)"
        )
    beside = path.parent / name
    try:
        handle = os.open(beside, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise InputError(f"{path} keeps weights in {name!r} beside it, which is missing; copy both files") from error
    except OSError as error:
        reason = "is a link; copy the file itself" if beside.is_symlink() else f"cannot be read: {error.strerror}"
        raise InputError(f"{path} keeps weights in {name!r} beside it, which {reason}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path} keeps weights in {name!r} beside it, which is no regular file")
    return os.fdopen(handle, "rb")


def _size(path: Path, tensor: TensorProto) -> int:
    try:
        size = -1 if tensor.data_type == TensorProto.STRING else tensor_bytes(tensor)
    except (KeyError, ValueError) as error:  # a type that this version of ONNX does not know
        raise InputError(f"{path}: external data of {tensor.name!r} has an unknown type") from error
    if size < 0:
        raise InputError(f"{path}: external data of {tensor.name!r} has no valid type or shape")
    return size


def _values(path: Path, tensor: TensorProto, file: BinaryIO) -> bytes:
    """The bytes of one tensor, exactly as many as its type and shape need."""
    name, size = _location(tensor), _size(path, tensor)
    try:
        offset = int(_entry(tensor.external_data, "offset", "0"))
        length = int(_entry(tensor.external_data, "length", str(size)))
    except ValueError as error:
        raise InputError(f"{path}: external data of {tensor.name!r} has no valid offset or length") from error
    if offset < 0 or length != size:
        raise InputError(f"{path}: external data of {tensor.name!r} does not fit its shape ({length} bytes for {size})")
    if os.fstat(file.fileno()).st_size < offset + length:
        raise InputError(f"{path}: {name!r} is too short for {tensor.name!r}: it is cut off, or another model's")
    file.seek(offset)
    return file.read(length)
