"""Finds what would make ONNX Runtime look at other files: tensors with external data, and prepared contexts.

A file is walked as protocol buffers encode it (https://protobuf.dev/programming-guides/encoding), along the fields of
onnx.proto3 that lead to tensors and operators. Whatever a parser could read in another way than this walk does is
refused, so that nothing hides.
"""

from collections.abc import Iterator

MAX_FIELDS = 1_000_000  # seconds of this walk; ordinary files have a few thousand
MAX_DEPTH = 100  # as protobuf itself
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# What each kind of message holds that matters: field number -> kind of message there.
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


class Unsafe(Exception):
    """The file is not ONNX, or asks for more than itself."""


def refuse_unsafe(content: bytes) -> None:
    """Let files pass that stand alone.

    Raises:
        Unsafe: external data, an operator that opens files, another format, or damaged.
    """
    if content[4:8] == b"ORTM":
        raise Unsafe("the file is in ONNX Runtime's own format; only ONNX is measured")
    view, seen = memoryview(content), 0
    todo = [("model", 0, len(content), 0)]
    while todo:
        kind, start, end, depth = todo.pop()
        inner = KINDS[kind]
        for number, wire, value, stop in _fields(view, start, end):
            seen += 1
            if seen > MAX_FIELDS:
                raise Unsafe(f"the file has more than {MAX_FIELDS:,} parts")
            if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
                raise Unsafe("the file keeps weights in external data; save it as one file")
            if wire != BYTES:
                continue
            if kind == "node" and number == OP_TYPE and content[value:stop] == b"EPContext":
                raise Unsafe("the file holds an EPContext, which may name other files")
            if number in inner:
                if depth >= MAX_DEPTH:
                    raise Unsafe("the file is nested too deeply")
                todo.append((inner[number], value, stop, depth + 1))


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, value (of bytes: where they begin), and where the field ends."""
    while at < end:
        tag, at = _varint(view, at, end, 5)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= 2**32:
            raise Unsafe("not an ONNX file")
        value = at
        if wire == VARINT:
            value, at = _varint(view, at, end, 10)
        elif wire == BYTES:
            length, value = _varint(view, at, end, 5)
            at = value + length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:  # groups, which onnx.proto3 never had
            raise Unsafe("not an ONNX file")
        if at > end:
            raise Unsafe("not an ONNX file, or cut off")
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
    raise Unsafe("not an ONNX file, or cut off")
