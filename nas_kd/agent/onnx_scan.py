"""Refuses models that would make ONNX Runtime open other files: external data, and prepared contexts.

A file is walked as protocol buffers encode it (https://protobuf.dev/programming-guides/encoding), along the fields of
onnx.proto3 that lead to tensors and operators. Any encoding that a parser could read in another way than this walk is
refused, so that nothing can be hidden.
"""

from collections.abc import Iterator

MAX_FIELDS = 1_000_000  # takes seconds to walk; ordinary files have a few thousand
MAX_DEPTH = 100  # the limit of protobuf itself
# Wire types.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# For each kind of message, the fields that lead to tensors and operators: field number -> kind of message in it.
MODEL = {7: "graph", 20: "training", 25: "function"}
GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
NODE = {5: "attribute"}
ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
SPARSE = {1: "tensor", 2: "tensor"}
TRAINING = {1: "graph", 2: "graph"}
FUNCTION = {7: "node", 11: "attribute"}
KINDS = {
    "model": MODEL,
    "graph": GRAPH,
    "node": NODE,
    "attribute": ATTRIBUTE,
    "sparse": SPARSE,
    "training": TRAINING,
    "function": FUNCTION,
    "tensor": {},
}
OP_TYPE, EXTERNAL_DATA, DATA_LOCATION = 4, 13, 14


class UnsafeModel(Exception):
    """A model is not an ONNX file, or refers to other files."""


def check_model(content: bytes) -> None:
    """Make sure that an ONNX file refers to no other file.

    Raises:
        UnsafeModel: It has external data or an operator that opens files, has another format, or is damaged.
    """
    if content[4:8] == b"ORTM":
        raise UnsafeModel("the file is in ONNX Runtime's own format; only ONNX is measured")
    view, n_fields = memoryview(content), 0
    pending = [("model", 0, len(content), 0)]
    while pending:
        kind, start, end, depth = pending.pop()
        inner = KINDS[kind]
        for number, wire, value, stop in _fields(view, start, end):
            n_fields += 1
            if n_fields > MAX_FIELDS:
                raise UnsafeModel(f"the file has more than {MAX_FIELDS:,} parts")
            if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
                raise UnsafeModel("the file keeps weights in external data; save it as one file")
            if wire != BYTES:
                continue
            if kind == "node" and number == OP_TYPE and content[value:stop] == b"EPContext":
                raise UnsafeModel("the file holds an EPContext, which may name other files")
            if number in inner:
                if depth >= MAX_DEPTH:
                    raise UnsafeModel("the file is nested too deeply")
                pending.append((inner[number], value, stop, depth + 1))


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields between two offsets: number, wire type, value (for bytes: the offset where they begin), and end."""
    while at < end:
        tag, at = _varint(view, at, end, 5)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= 2**32:
            raise UnsafeModel("not an ONNX file")
        value = at
        if wire == VARINT:
            value, at = _varint(view, at, end, 10)
        elif wire == BYTES:
            length, value = _varint(view, at, end, 5)
            at = value + length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:  # groups, which onnx.proto3 never had
            raise UnsafeModel("not an ONNX file")
        if at > end:
            raise UnsafeModel("not an ONNX file, or cut off")
        yield number, wire, value, at


def _varint(view: memoryview, at: int, end: int, longest: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * longest, 7):
        if at >= end:
            break
        byte = view[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise UnsafeModel("not an ONNX file, or cut off")
