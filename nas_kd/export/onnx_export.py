"""Exports a network as the single ONNX file that is deployed."""

from collections.abc import Iterator, Mapping

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas_kd.errors import InputError, TrialError
from nas_kd.export.dynamic_batch import with_dynamic_batch
from nas_kd.export.error_text import first_line
from nas_kd.export.eval_mode import device_of, evaluating, without_fast_path
from nas_kd.export.exporters import OPSET, export_by_dynamo, has_dynamo, trace
from nas_kd.export.minify import minify, serialize_checked
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.user_code import unchanged_settings

PREFIX = "nas_kd."
BATCHES = (1, 3)  # sizes that a file is tried with where tracing may have fixed that of the example, 2
RELATIVE_TOLERANCE = 1e-3  # of the largest logit, in that trial; what is deployed is verified closely
ROUNDING = 0.1  # the same where values are rounded to 8 bits, some of them either way


def export_onnx(model: nn.Module, input_shape: tuple[int, ...], output: str = "logits", axes: int = 2) -> bytes:
    """Export a network: `input` float32 (batch, *input_shape) -> `logits` (batch, n_classes), batch dynamic.

    Batch normalisation after a convolution is folded into it. Names and comments that no runtime needs are left out, so
    the result is as small as it can be deployed, metadata apart (`set_metadata`). Its length depends on the
    architecture alone, and equal weights give equal bytes. The network's mode and global settings are left as they
    were. Where the usual exporter fails, the other one is tried if it is installed (package onnxscript).

    Args:
        model: the network, on any device.
        input_shape: shape of one sample.
        output: name of the output.
        axes: that the output must have, that of the batch among them.

    Returns:
        The bytes of the file.

    Raises:
        TrialError: the network does not run on this shape, or cannot be exported.
    """
    with unchanged_settings(), evaluating(model), without_fast_path():
        example = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device_of(model))
        _check_output(model, example, axes)
        first_failure: TrialError | None = None
        for exported in _attempts(model, example, output):
            if isinstance(exported, TrialError):
                first_failure = first_failure or exported
                continue
            minify(exported, _tied(model))
            return serialize_checked(exported, "exported")
    raise first_failure or TrialError("the network cannot be exported to ONNX")


def set_metadata(content: bytes, properties: Mapping[str, str]) -> bytes:
    """Append metadata properties, sorted by name, to a file.

    Args:
        content: the file; b"" is an empty one. It becomes longer by what the properties take, whatever is in it.
        properties: texts by name; every name starts with `nas_kd.` and is new to the file.

    Raises:
        ValueError: a name lacks the prefix, or is in the file already.
    """
    if wrong := [name for name in properties if not name.startswith(PREFIX)]:
        raise ValueError(f"names of metadata start with {PREFIX!r}, got {wrong[0]!r}")
    if known := properties.keys() & get_metadata(content).keys():
        raise ValueError(f"the file has metadata {min(known)!r} already")
    appended = ModelProto()  # serialised protobuf messages are merged by concatenation
    for key in sorted(properties):
        appended.metadata_props.add(key=key, value=properties[key])
    return content + bytes(appended.SerializeToString(deterministic=True))


def get_metadata(content: bytes) -> dict[str, str]:
    """Read the metadata properties of a file whose names start with `nas_kd.`."""
    model = onnx.load_from_string(content)
    return {p.key: p.value for p in model.metadata_props if p.key.startswith(PREFIX)}


def get_opset(content: bytes) -> int:
    """Read the opset version of ONNX's standard operators that a file uses."""
    versions = {o.domain: int(o.version) for o in onnx.load_from_string(content).opset_import}
    return versions.get("", versions.get("ai.onnx", OPSET))


def _check_output(model: nn.Module, example: Tensor, axes: int) -> None:
    try:
        logits = model(example)
    except (Exception, SystemExit) as error:  # a user's network may raise anything; its trial fails
        raise TrialError(f"the network does not run on input {tuple(example.shape)}: {first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.ndim != axes or logits.shape[0] != example.shape[0]:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wanted = "logits (batch, n_classes)" if axes == 2 else f"a tensor with {axes} axes, the batch first,"
        raise TrialError(f"the network must return {wanted} to be exported, got {got}")


def _attempts(model: nn.Module, example: Tensor, output: str) -> Iterator[ModelProto | TrialError]:
    """What each exporter makes of the network, the usual one first."""
    for attempt in (_traced, _exported_by_dynamo) if has_dynamo() else (_traced,):
        try:
            yield attempt(model, example, output)
        except TrialError as error:
            yield error


def _exported_by_dynamo(model: nn.Module, example: Tensor, output: str) -> ModelProto:
    exported = export_by_dynamo(model, example, output)
    _check_batches(exported, model, example)
    return exported


def _traced(model: nn.Module, example: Tensor, output: str) -> ModelProto:
    """Trace the network; where a batch size became a constant on the way, it is made the input's again."""
    exported, doubtful = trace(model, example, output)
    if not doubtful:
        return exported
    try:
        _check_batches(exported, model, example)
        return exported
    except TrialError as failure:
        three = torch.cat([example, example[:1]])
        try:
            exported = with_dynamic_batch(exported, trace(model, three, output)[0], len(example), len(three))
            _check_batches(exported, model, example)
        except TrialError:
            raise failure from None  # which says what is wrong with the network
        return exported


def _check_batches(exported: ModelProto, model: nn.Module, example: Tensor) -> None:
    """Run a file on batches of other sizes than it was traced with.

    Raises:
        TrialError: it cannot run on them, or computes something else than the network.
    """
    content = serialize_checked(exported, "exported")
    rounds = any(node.op_type == "QuantizeLinear" for node in exported.graph.node)
    tolerance = ROUNDING if rounds else RELATIVE_TOLERANCE
    for size in BATCHES:
        x = torch.cat([example, example])[:size].roll(1, -1)
        with torch.no_grad():
            wanted = model(x.clone()).float().cpu()
        try:
            found = torch.from_numpy(OnnxClassifier(content).predict(x))
        except InputError as error:
            raise TrialError(
                f"the exported file takes batches of {len(example)} only, as the network's forward makes a Python "
                "number of the batch size (as len(x) does; x.shape[0] would do)"
            ) from error
        if not torch.allclose(found, wanted, rtol=0, atol=tolerance * float(wanted.abs().max())):
            raise TrialError(
                "the exported file computes something else than the network, whose forward decides by values of its "
                "input or makes Python numbers of them"
            )


def _tied(model: nn.Module) -> list[frozenset[str]]:
    """Groups of names in the state dict that share one tensor in memory."""
    groups: dict[tuple[int, torch.Size], set[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault((tensor.data_ptr(), tensor.shape), set()).add(name)
    return [frozenset(group) for group in groups.values() if len(group) > 1]
