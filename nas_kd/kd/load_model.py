"""Rebuilds a run's trained student as a module, from the weights that the store keeps of each finalist."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.network_builder import trainable
from nas_kd.models.heads.headed_space import JOIN, with_head
from nas_kd.models.search_space import SearchSpace, load_space, takes_stored_units
from nas_kd.models.wrappers import Normalized, sum_networks
from nas_kd.plugins import available
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.store.store import Store
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


def load_weights(store: Store, key: str | None) -> dict[str, Tensor]:
    """Load the weights of a finalist's deployed network.

    Args:
        store: of the run.
        key: `SeedRecord.weights_key`.

    Raises:
        InputError: they are no longer there.
    """
    entry = None if key is None else store.load("deployed", key)
    if entry is None:
        raise InputError(f"{store.root}: the finalist's weights are gone; run the search again on this folder")
    return entry.tensors


def build_model(
    candidate: Candidate,
    weights: Mapping[str, Tensor],
    input_shape: tuple[int, ...],
    n_classes: int,
    space: Any = None,
    *,
    task: Task = CLASSIFICATION,
) -> nn.Module:
    """Build the network that a candidate deploys, with these weights, in eval mode.

    Args:
        candidate: student, chain policy and precision.
        weights: its state dict.
        input_shape: of one sample.
        n_classes: width of the logits.
        space: of the student; a name, `package.module:Name` or an object. None: the registry's, by the architecture.
        task: that it was trained for.

    Returns:
        (B, *input_shape) float32 in the data's own units -> (B, n_classes) logits; normalisation is inside. At a
        precision that is simulated in training it rounds as the file does; at others that are made of trained weights
        it computes in fp32.

    Raises:
        InputError: the space is unknown, or the weights are another network's.
    """
    plugin = load_precision(candidate.precision)
    members = [
        plugin.prepare(_body(architecture, input_shape, n_classes, space, task), input_shape)
        for architecture in load_policy(candidate.policy).deployed(candidate)
    ]
    model = sum_networks(members)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(
            f"the weights are not those of candidate {candidate.id}: {' '.join(str(error).split())[:200]}"
        ) from error
    return model.eval()


def _body(
    architecture: Architecture, input_shape: tuple[int, ...], n_classes: int, space: Any, task: Task
) -> nn.Module:
    channels = input_shape[0] if len(input_shape) == 3 else 1
    found = _space(architecture, space, task)
    body = found.build(architecture, input_shape, n_classes)
    body = trainable(body, input_shape, task.raw_shape(n_classes))
    if takes_stored_units(found):
        return body
    return Normalized(body, torch.zeros(channels), torch.ones(channels))  # the real ones are among the weights


def _space(architecture: Architecture, given: Any, task: Task) -> SearchSpace:
    if given is not None and (found := with_head(load_space(given), task)).name == architecture.space:
        return found
    if architecture.space.partition(JOIN)[0] not in available("space"):
        raise InputError(
            f"the student is of space {architecture.space!r}, which is not in the registry: pass it as space=..."
        )
    return load_space(architecture.space)


def weights_file(weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> bytes:
    """Make a safetensors file of a student, with what is needed to rebuild it in its header, under `nas_kd.card`.

    Args:
        weights: its state dict.
        card: JSON-able facts.
    """
    return save({k: v.contiguous() for k, v in weights.items()}, {"nas_kd.card": json.dumps(card)})
