"""Models that refer to other files are refused, however they are encoded; others pass."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from nas_kd.agent.onnx_scan import UnsafeModel, check_model
from nas_kd.export.onnx_graph import tensors
from nas_kd.latency.reference_net import reference_net

LOCATION = b"\x70\x01"  # a tensor's field 14, data_location = EXTERNAL


def outside(name: str = "weights.bin", location: bool = True, data: bool = True) -> TensorProto:
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[3])
    if location:
        tensor.data_location = TensorProto.EXTERNAL
    if data:
        tensor.external_data.add(key="location", value=name)
    return tensor


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def places() -> dict[str, ModelProto]:
    """A model for each place in which a tensor can be."""
    sparse = onnx.SparseTensorProto(values=outside(), dims=[3])
    inner = GraphProto(name="inner", node=[constant(outside())])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner)
    several = onnx.NodeProto(op_type="X", attribute=[AttributeProto(name="a", tensors=[outside()])])
    graphs = onnx.NodeProto(op_type="X", attribute=[AttributeProto(name="a", graphs=[inner])])
    sparse_node = onnx.NodeProto(op_type="X", attribute=[AttributeProto(name="a", sparse_tensors=[sparse])])
    function = onnx.FunctionProto(name="f", node=[constant(outside())])
    default = onnx.FunctionProto(name="f", attribute_proto=[AttributeProto(name="a", t=outside())])
    training = onnx.TrainingInfoProto(algorithm=GraphProto(initializer=[outside()]))
    made = {
        "initializer": GraphProto(initializer=[outside()]),
        "sparse initializer": GraphProto(sparse_initializer=[sparse]),
        "constant": GraphProto(node=[constant(outside())]),
        "branch": GraphProto(node=[branch]),
        "tensors": GraphProto(node=[several]),
        "graphs": GraphProto(node=[graphs]),
        "sparse attribute": GraphProto(node=[sparse_node]),
        "location only": GraphProto(initializer=[outside(data=False)]),
        "data only": GraphProto(initializer=[outside(location=False)]),
    }
    models = {name: ModelProto(graph=graph) for name, graph in made.items()}
    models["function"] = ModelProto(functions=[function])
    models["function's default"] = ModelProto(functions=[default])
    models["training"] = ModelProto(training_info=[training])
    return models


@pytest.mark.parametrize("name", places())
def test_external_data_is_found_wherever_it_is(name: str) -> None:
    with pytest.raises(UnsafeModel, match="external data"):
        check_model(places()[name].SerializeToString())


def is_refused(content: bytes) -> bool:
    """Whether the scan refuses the file."""
    try:
        check_model(content)
    except UnsafeModel:
        return True
    return False


def test_files_that_stand_alone_pass(content: bytes) -> None:
    assert not is_refused(content)
    assert not is_refused(reference_net("small"))
    assert not is_refused(reference_net("large"))


def field(tag: bytes, inner: bytes) -> bytes:
    """Shorter than 128 bytes."""
    return tag + bytes([len(inner)]) + inner


@pytest.mark.parametrize(
    "tensor",
    [
        b"\xf0\x00\x01",  # the tag is longer than it need be
        b"\x70\x81\x80\x00",  # so is the value
        b"\x70\x81\x80\x80\x80\x10",  # 2^32 + 1: a parser that keeps 32 bits reads 1
        b"\xf0\x80\x80\x80\x10\x01",  # the same in the tag
        b"\x70\x00" + LOCATION,  # the last of several counts
        b"\x73" + LOCATION + b"\x74",  # in a group
    ],
)
def test_no_encoding_hides_it(tensor: bytes) -> None:
    with pytest.raises(UnsafeModel):
        check_model(field(b"\x3a", field(b"\x2a", tensor)))


def test_other_formats_and_contexts_are_refused() -> None:
    with pytest.raises(UnsafeModel, match="own format"):
        check_model(b"\x20\x00\x00\x00ORTM" + bytes(100))
    with pytest.raises(UnsafeModel, match="EPContext"):
        check_model(ModelProto(graph=GraphProto(node=[onnx.NodeProto(op_type="EPContext")])).SerializeToString())


def test_a_walk_is_never_long_or_deep() -> None:
    with pytest.raises(UnsafeModel, match="parts"):
        check_model(b"\x08\x01" * 1_000_001)
    deep = b""
    for _ in range(60):  # a graph in an attribute in a node in a graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            deep = tag + length_of(len(deep)) + deep
    with pytest.raises(UnsafeModel, match="deeply"):
        check_model(b"\x3a" + length_of(len(deep)) + deep)


def length_of(size: int) -> bytes:
    encoded = b""
    while size >= 128:
        encoded, size = encoded + bytes([size & 127 | 128]), size >> 7
    return encoded + bytes([size])


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    try:
        check_model(data)
    except UnsafeModel:
        return
    assert not external(data)


@given(
    st.sampled_from(sorted(places())),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
)
def test_what_a_parser_finds_after_damage_is_refused(name: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(places()[name].SerializeToString())
    for at, value in damage:
        data[at % len(data)] = value
    if external(bytes(data)):
        with pytest.raises(UnsafeModel):
            check_model(bytes(data))


def external(data: bytes) -> bool:
    """Whether onnx itself finds external data, if it can read the file."""
    try:
        model = onnx.load_from_string(data)
    except Exception:  # whatever its parser raises: it reads nothing
        return False
    return any(t.data_location == TensorProto.EXTERNAL for t in tensors(model))
