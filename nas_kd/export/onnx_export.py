"""Exports a network as the single ONNX file that is deployed."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.eval_mode import device_of, evaluating
from nas_kd.export.minify import minify, serialize_checked

OPSET = 17
PREFIX = "nas_kd."
# The new (dynamo) exporter takes 0.8-2.6 s per network, this one a tenth of that.
_DEPRECATIONS = (r"You are using the legacy TorchScript-based ONNX export", r"The feature will be removed")


def export_onnx(model: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """Export a network: `input` float32 (batch, *input_shape) -> `logits` (batch, n_classes), batch dynamic.

    Batch normalisation after a convolution is folded into it. Names and comments that no runtime needs are left out, so
    the length of the result is the deployed size (before `set_metadata`). It depends on the architecture alone, and
    equal weights give equal bytes. The network's mode and the global random state are left as they were.

    Args:
        model: the network, on any device.
        input_shape: shape of one sample.

    Returns:
        The bytes of the file.

    Raises:
        TrialError: the network does not run on this shape, or cannot be exported.
    """
    with evaluating(model):
        example = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device_of(model))
        _check_output(model, example)
        exported = onnx.load_from_string(_trace(model, example))
    minify(exported, _tied(model))
    return serialize_checked(exported, "exported")


def set_metadata(content: bytes, properties: Mapping[str, str]) -> bytes:
    """Add metadata properties to a file; those of the same names are replaced.

    Args:
        content: the file.
        properties: texts by name; every name starts with `nas_kd.`.

    Raises:
        ValueError: a name lacks the prefix.
    """
    if wrong := [name for name in properties if not name.startswith(PREFIX)]:
        raise ValueError(f"names of metadata start with {PREFIX!r}, got {wrong[0]!r}")
    model = onnx.load_from_string(content)
    merged = {p.key: p.value for p in model.metadata_props} | dict(properties)
    del model.metadata_props[:]
    for key in sorted(merged):
        model.metadata_props.add(key=key, value=merged[key])
    merged_bytes: bytes = model.SerializeToString(deterministic=True)
    return merged_bytes


def get_metadata(content: bytes) -> dict[str, str]:
    """Read the metadata properties of a file whose names start with `nas_kd.`."""
    model = onnx.load_from_string(content)
    return {p.key: p.value for p in model.metadata_props if p.key.startswith(PREFIX)}


def get_opset(content: bytes) -> int:
    """Read the opset version of ONNX's standard operators that a file uses."""
    versions = {o.domain: int(o.version) for o in onnx.load_from_string(content).opset_import}
    return versions.get("", versions.get("ai.onnx", OPSET))


def _check_output(model: nn.Module, example: Tensor) -> None:
    try:
        logits = model(example)
    except Exception as error:  # a user's network may raise anything; its trial fails, the search goes on
        raise TrialError(f"the network does not run on input {tuple(example.shape)}: {first_line(error)}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != example.shape[0]:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TrialError(f"the network must return logits (batch, n_classes) to be exported, got {got}")


def _trace(model: nn.Module, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    target: Any = buffer  # the annotation of `f` excludes buffers, but the TorchScript-based exporter accepts them
    with warnings.catch_warnings():
        for message in _DEPRECATIONS:
            warnings.filterwarnings("ignore", message, DeprecationWarning)
        try:
            torch.onnx.export(
                model,
                (example,),
                target,
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["logits"],
                dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise TrialError(f"the network cannot be exported to ONNX: {first_line(error)}") from error
    return buffer.getvalue()


def _tied(model: nn.Module) -> list[frozenset[str]]:
    """Groups of names in the state dict that share one tensor in memory."""
    groups: dict[tuple[int, torch.Size], set[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault((tensor.data_ptr(), tensor.shape), set()).add(name)
    return [frozenset(group) for group in groups.values() if len(group) > 1]
