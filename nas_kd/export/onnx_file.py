"""Reads and checks ONNX files of any origin: a plain classifier in a single file, or an error that says why not."""

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from nas_kd.errors import InputError
from nas_kd.export.onnx_graph import nodes, tensors

MAX_BYTES = 1_000_000_000  # protobuf itself is limited to 2 GB
DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
)  # operators that ONNX Runtime runs without extra libraries


@dataclass(frozen=True)
class OnnxFile:
    """A checked ONNX classifier in one file.

    Attributes:
        content: the bytes of the file.
        source: its path, or a description for messages.
        input_name: name of the only input.
        output_name: name of the logits.
        batch: fixed batch size; None: dynamic.
        input_shape: shape of one sample, None for dynamic sides.
        n_classes: number of logits; None: not stated.
        parameters: number of weights.
    """

    content: bytes
    source: str
    input_name: str
    output_name: str
    batch: int | None
    input_shape: tuple[int | None, ...]
    n_classes: int | None
    parameters: int


def read_onnx(source: Path | bytes) -> OnnxFile:
    """Read and check a classifier: one float32 input (batch, ...), output logits (batch, n_classes).

    Of several outputs, the one named `logits` is taken.

    Args:
        source: path or bytes of the file.

    Raises:
        InputError: no such file, not ONNX, too large, external data, custom operators, or another signature.
    """
    name, content = _content(source)
    model = _parse(name, content)
    if any(t.data_location == TensorProto.EXTERNAL for t in tensors(model)):
        raise InputError(f"{name} keeps weights in external files; save it as one file (external_data=False)")
    known = DOMAINS | {f.domain for f in model.functions}
    if custom := sorted({f"{n.domain}::{n.op_type}" for n in nodes(model) if n.domain not in known}):
        raise InputError(f"{name} needs custom operators ({', '.join(custom[:3])}); only standard ones are run")
    if any(n.op_type in {"ATen", "PyOp"} for n in nodes(model)):
        raise InputError(f"{name} needs operators of another framework; export it with standard ones")
    weights = {w.name for w in model.graph.initializer}
    source_in = _only_input(name, [v for v in model.graph.input if v.name not in weights])
    output = _logits(name, list(model.graph.output))
    batch, *shape = _shape(source_in)
    classes = _shape(output)
    if output.type.tensor_type.HasField("shape") and len(classes) != 2:
        raise InputError(
            f"{name}: output {output.name!r} must be logits (batch, n_classes), it has {len(classes)} axes"
        )
    return OnnxFile(
        content=content,
        source=name,
        input_name=source_in.name,
        output_name=output.name,
        batch=batch,
        input_shape=tuple(shape),
        n_classes=classes[1] if classes else None,
        parameters=count_weights(model),
    )


def count_weights(model: ModelProto) -> int:
    """Count the numbers that a model stores, floating-point or at most 8-bit integers, normalisation included."""
    kinds = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    kinds |= {
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT4,
        TensorProto.UINT4,
        TensorProto.INT2,
        TensorProto.UINT2,
    }
    return sum(_size(t) for t in tensors(model) if t.data_type in kinds)


def _size(tensor: TensorProto) -> int:
    total = 1
    for side in tensor.dims:
        total *= side
    return total


def _content(source: Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "the ONNX model", source
    try:
        if source.stat().st_size > MAX_BYTES:
            raise InputError(f"{source} is larger than {MAX_BYTES / 1e9:g} GB; only single-file models below are taken")
        return str(source), source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the ONNX file {source}: {error.strerror}") from error


def _parse(name: str, content: bytes) -> ModelProto:
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise InputError(f"{name} is not an ONNX file") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{name} is not an ONNX file, or holds no network")
    return model


def _only_input(name: str, inputs: list[ValueInfoProto]) -> ValueInfoProto:
    if len(inputs) != 1:
        found = ", ".join(v.name for v in inputs) or "none"
        raise InputError(f"{name} must have exactly one input (the samples), it has {len(inputs)}: {found}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise InputError(f"{name}: input {inputs[0].name!r} must be float32, it is {kind}")
    if len(tensor.shape.dim) < 2:
        raise InputError(f"{name}: input {inputs[0].name!r} must be (batch, ...), it has {len(tensor.shape.dim)} axes")
    return inputs[0]


def _logits(name: str, outputs: list[ValueInfoProto]) -> ValueInfoProto:
    named = [v for v in outputs if v.name == "logits"] or outputs
    if len(named) != 1:
        found = ", ".join(v.name for v in outputs)
        raise InputError(f"{name} has {len(outputs)} outputs ({found}); keep one, or call one of them 'logits'")
    return named[0]


def _shape(value: ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)
