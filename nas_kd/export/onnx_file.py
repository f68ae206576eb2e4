"""Reads and checks ONNX files of any origin: a classifier of one input, or an error that says why not."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from nas_kd.errors import InputError
from nas_kd.export.external_data import embed_external_data, external_tensors
from nas_kd.export.onnx_graph import ends_in, nodes, tensors

MAX_BYTES = 1_000_000_000  # protobuf itself is limited to 2 GB
FLAT = 2  # axes of an output (batch, n_classes)
DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
)  # operators that ONNX Runtime runs without extra libraries


FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
# Types that samples can be fed in: ONNX's -> NumPy's name.
INPUT_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}


@dataclass(frozen=True)
class OnnxFile:
    """A checked ONNX classifier.

    Attributes:
        content: the bytes of the file, external data included.
        source: its path, or a description for messages.
        input_name: name of the only input.
        output_name: name of the logits.
        batch: fixed batch size; None: dynamic.
        input_shape: shape of one sample, None for dynamic sides.
        n_classes: number of logits; None: not stated.
        parameters: number of weights.
        dtype: number type of the input, by NumPy's name.
        last_operator: the one that computes the output, such as "Softmax"; renamed and reshaped outputs are followed.
        axes: of the output with that of the batch: 2 of logits of samples, 4 of maps of logits.
    """

    content: bytes
    source: str
    input_name: str
    output_name: str
    batch: int | None
    input_shape: tuple[int | None, ...]
    n_classes: int | None
    parameters: int
    dtype: str = "float32"
    last_operator: str = ""
    axes: int = FLAT

    @property
    def is_float(self) -> bool:
        """Whether samples are fed as floating-point numbers, of any width."""
        return self.dtype.startswith("float")

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether samples of this shape fit the input; open sides take anything."""
        wanted = self.input_shape
        return len(wanted) == len(shape) and all(w in (None, s) for w, s in zip(wanted, shape, strict=True))

    def require(self, shape: tuple[int, ...]) -> None:
        """Refuse samples that do not fit the input.

        Args:
            shape: of one sample.

        Raises:
            InputError: says what it takes.
        """
        if not self.takes(shape):
            text = ", ".join("any" if side is None else str(side) for side in self.input_shape)
            raise InputError(f"{self.source} takes samples of shape ({text}), the data's are {shape}")

    def closed(self, input_shape: tuple[int, ...]) -> "OnnxFile":
        """Fix the sides of a sample that the file leaves open, for what cannot be told them otherwise.

        Args:
            input_shape: shape of one sample, which fits the file.
        """
        if None not in self.input_shape:
            return self
        model = onnx.load_from_string(self.content)
        source = next(v for v in model.graph.input if v.name == self.input_name)
        for dim, side in zip(source.type.tensor_type.shape.dim[1:], input_shape, strict=True):
            dim.dim_value = side
        return replace(self, content=model.SerializeToString(), input_shape=input_shape)


def read_onnx(
    source: Path | bytes, output: str | None = None, n_classes: int | None = None, *, axes: int | None = FLAT
) -> OnnxFile:
    """Read and check a classifier: one input (batch, ...), output logits or probabilities (batch, n_classes).

    Of several outputs, the one that is asked for is taken, else the one named `logits`, else the only one of that
    shape. Weights in files beside the model are read as well, see `external_data`.

    Args:
        source: path or bytes of the file.
        output: name of the output to read.
        n_classes: number of classes, which tells outputs apart.
        axes: that the output must have, that of the batch among them; None: as many as the file states, two if it
            states none.

    Raises:
        InputError: no such file, not ONNX, too large, external data that cannot be read, custom operators, or another
            signature.
    """
    name, content, model = _whole(source)
    _check_operators(name, model)
    weights = {w.name for w in model.graph.initializer}
    source_in = _only_input(name, [v for v in model.graph.input if v.name not in weights])
    chosen = _logits(name, list(model.graph.output), output, n_classes)
    batch, *shape = _shape(source_in)
    stated = len(_shape(chosen)) if chosen.type.tensor_type.HasField("shape") else FLAT
    axes = max(FLAT, FLAT if _is_flat(_shape(chosen)) else stated) if axes is None else axes
    sides = _class_sides(name, chosen, axes)
    return OnnxFile(
        content=content,
        source=name,
        input_name=source_in.name,
        output_name=chosen.name,
        batch=batch,
        input_shape=tuple(shape),
        n_classes=sides[1] if sides else None,
        parameters=count_weights(model),
        dtype=INPUT_TYPES[source_in.type.tensor_type.elem_type],
        last_operator=ends_in(model.graph, chosen.name),
        axes=axes,
    )


def read_whole(path: Path) -> bytes:
    """Read an ONNX file with the weights that it keeps in files beside it; what it computes is not looked at.

    Raises:
        InputError: no such file, not ONNX, too large, or external data that cannot be read.
    """
    return _whole(path)[1]


def _whole(source: Path | bytes) -> tuple[str, bytes, ModelProto]:
    """Name, content with all weights in it, and model."""
    name, content = _content(source)
    model = _parse(name, content)
    if external_tensors(model):
        if isinstance(source, bytes):
            raise InputError(f"{name} keeps weights in external files; save it as one file (external_data=False)")
        embed_external_data(model, source, len(content), MAX_BYTES)
        content = model.SerializeToString()
    return name, content, model


def _check_operators(name: str, model: ModelProto) -> None:
    known = DOMAINS | {f.domain for f in model.functions}
    if custom := sorted({f"{n.domain}::{n.op_type}" for n in nodes(model) if n.domain not in known}):
        raise InputError(f"{name} needs custom operators ({', '.join(custom[:3])}); only standard ones are run")
    if any(n.op_type in {"ATen", "PyOp"} for n in nodes(model)):
        raise InputError(f"{name} needs operators of another framework; export it with standard ones")


def count_weights(model: ModelProto) -> int:
    """Count the numbers that a model stores, floating-point or at most 8-bit integers, normalisation included."""
    kinds = FLOATS | {
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
            raise InputError(f"{source} is larger than {MAX_BYTES / 1e9:g} GB; only smaller models are taken")
        return str(source), source.read_bytes()
    except IsADirectoryError as error:
        inside = next((f"; is it {path}?" for path in sorted(source.glob("*.onnx"))), "")
        raise InputError(f"cannot read the ONNX file {source}: it is a folder{inside}") from error
    except OSError as error:
        raise InputError(f"cannot read the ONNX file {source}: {error.strerror}") from error


def _parse(name: str, content: bytes) -> ModelProto:
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise InputError(f"{name} is not an ONNX file") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{name} is not an ONNX file, or holds no network")
    for value in (*model.graph.input, *model.graph.output):
        if not isinstance(value.name, str):  # protobuf gives bytes where a text is not UTF-8
            raise InputError(f"{name} is damaged: the name of an input or output is no text")
    return model


def _only_input(name: str, inputs: list[ValueInfoProto]) -> ValueInfoProto:
    if len(inputs) != 1:
        found = ", ".join(v.name for v in inputs) or "none"
        raise InputError(f"{name} must have exactly one input (the samples), it has {len(inputs)}: {found}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in INPUT_TYPES:
        kinds = {number: text.lower() for text, number in TensorProto.DataType.items()}
        kind = kinds.get(tensor.elem_type, f"of unknown type {tensor.elem_type}")
        allowed = ", ".join(INPUT_TYPES.values())
        raise InputError(f"{name}: input {inputs[0].name!r} must be one of {allowed}; it is {kind}")
    if len(tensor.shape.dim) < 2:
        raise InputError(f"{name}: input {inputs[0].name!r} must be (batch, ...), it has {len(tensor.shape.dim)} axes")
    return inputs[0]


def _logits(name: str, outputs: list[ValueInfoProto], wanted: str | None, n_classes: int | None) -> ValueInfoProto:
    """The output that is asked for, else `logits`, else the only one that can be (batch, n_classes)."""
    shown = ", ".join(f"{v.name} {_text(v)}" for v in outputs)
    if wanted is not None:
        for value in outputs:
            if value.name == wanted:
                return value
        raise InputError(f"{name} has no output {wanted!r}; it has {shown}")
    named = [v for v in outputs if v.name == "logits"] or outputs
    if len(named) > 1:
        fitting = [v for v in named if _fits(v, n_classes)]
        stated = [v for v in fitting if len(_shape(v)) > 1 and _shape(v)[1] is not None]
        named = fitting if len(fitting) == 1 else stated
    if len(named) != 1:
        raise InputError(
            f"{name} has {len(outputs)} outputs ({shown}), and it is not clear which one is (batch, n_classes); "
            f"name it, such as teacher.output = \"{outputs[0].name}\", or call it 'logits'"
        )
    return named[0]


def _fits(value: ValueInfoProto, n_classes: int | None) -> bool:
    """Whether an output can be (batch, n_classes), as far as the file states its type and shape."""
    tensor, shape = value.type.tensor_type, _shape(value)
    if tensor.elem_type not in FLOATS:
        return False
    return not tensor.HasField("shape") or (_is_flat(shape) and (n_classes is None or shape[1] in (None, n_classes)))


def _is_flat(shape: tuple[int | None, ...]) -> bool:
    """Whether a shape is (batch, n_classes), or that with sides of 1 behind it."""
    return len(shape) >= 2 and all(side == 1 for side in shape[2:])


def _class_sides(name: str, output: ValueInfoProto, axes: int) -> tuple[int | None, ...]:
    sides = _shape(output)
    if axes != FLAT and output.type.tensor_type.HasField("shape") and len(sides) != axes:
        raise InputError(f"{name}: output {output.name!r} must have {axes} axes, it is {_text(output)}")
    if axes == FLAT and output.type.tensor_type.HasField("shape") and not _is_flat(sides):
        raise InputError(f"{name}: output {output.name!r} must be logits (batch, n_classes), it is {_text(output)}")
    return sides


def _text(value: ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return "(no tensor)"
    return f"({', '.join(str(d.dim_param or d.dim_value or '?') for d in value.type.tensor_type.shape.dim)})"


def _shape(value: ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)
