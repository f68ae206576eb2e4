"""Reads what a network computes inside: features at changes of resolution or shares of depth, and the embedding."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Any

from torch import Tensor, nn

from nas_kd.engine.module_calls import Call, first_output, record_calls, stages_by_depth
from nas_kd.errors import InputError
from nas_kd.export.eval_mode import without_fast_path
from nas_kd.methods.base import Need, Outputs
from nas_kd.models.heads.headed_space import Headed


@dataclass(frozen=True)
class FeaturePoints:
    """Where a network is read.

    Attributes:
        features: paths of the modules whose outputs are the features, in the order of the forward pass.
        classifier: path of the module whose input is the embedding; None: the logits stand in for it.
        stem: path of the module whose output the first stage starts from, at its resolution; None: there is none.
        sequence_first: paths of all modules that give tokens as (t, B, d).
    """

    features: tuple[str, ...]
    classifier: str | None
    stem: str | None = None
    sequence_first: frozenset[str] = frozenset()


def find_feature_points(model: nn.Module, example: Tensor, features: Sequence[str] | None = None) -> FeaturePoints:
    """Find the last module before each change of resolution, and the last linear layer, by one forward pass.

    The resolution of a plain transformer never changes: its blocks are read after 1/3, 2/3 and all of its depth, behind
    the maps of a convolutional part with stages of its own, if there is one. Where maps follow on tokens, stages are
    told by resolution alone.

    Args:
        model: in any mode; left as it was.
        example: (B, ...) a batch that it takes.
        features: module paths to read instead of the ones found.

    Raises:
        InputError: one of `features` is not a module of the model, or gives no feature map.
    """
    calls = record_calls(model, example)
    linear = [c.path for c in calls if isinstance(model.get_submodule(c.path), nn.Linear)]
    classifier = linear[-1] if linear else None
    sequence_first = frozenset(c.path for c in calls if c.sequence_first)
    if features is None:
        features = _declared(model, calls) or _stages(model, calls)
        return FeaturePoints(features, classifier, _stem(model, calls, features), sequence_first)
    maps = {c.path for c in calls if c.shape_out is not None or c.tokens is not None}
    for path in features:
        if path not in maps:
            raise InputError(
                f"teacher.features: {path!r} gives no feature map; modules that do: {', '.join(sorted(maps))}"
            )
    return FeaturePoints(tuple(features), classifier, _stem(model, calls, features), sequence_first)


def _declared(model: nn.Module, calls: list[Call]) -> tuple[str, ...]:
    """The modules that a network itself names as its stages (`feature_paths`), if they were called."""
    called = {c.path for c in calls}
    for path, module in model.named_modules():
        found = tuple(f"{path}.{own}" if path else own for own in getattr(module, "feature_paths", ()))
        if found and isinstance(module, Headed) and called.issuperset(found):
            return found
    return ()


def _stages(model: nn.Module, calls: list[Call]) -> tuple[str, ...]:
    last = _last_of_each_resolution(model, calls)
    by_depth = stages_by_depth(model, calls)
    if not by_depth:
        return tuple(last.values())
    maps = [path for resolution, path in last.items() if len(resolution) > 1]
    ends = {call.path: place for place, call in enumerate(calls)}
    if any(ends[path] > ends[by_depth[0]] for path in maps):
        return tuple(last.values())
    return (*(maps if len(maps) > 1 else ()), *by_depth)  # a single map is what patches are embedded into


def _last_of_each_resolution(model: nn.Module, calls: list[Call]) -> dict[tuple[int, ...], str]:
    """The last block at each resolution; blocks inside of other blocks do not count."""
    last: dict[tuple[int, ...], str] = {}
    for call in _outer_blocks(model, calls):
        assert call.shape_out is not None
        last.pop(call.shape_out, None)
        last[call.shape_out] = call.path
    return last


def _outer_blocks(model: nn.Module, calls: list[Call]) -> list[Call]:
    blocks = [c for c in calls if c.shape_out and _is_block(model, c, calls)]
    return [c for c in blocks if not any(c.path.startswith(f"{o.path}.") for o in blocks)]


def _stem(model: nn.Module, calls: list[Call], features: Sequence[str]) -> str | None:
    """The first block with weights, or the run of single layers there, if the first stage has it in front of it."""
    blocks = list(dropwhile(lambda c: not list(model.get_submodule(c.path).parameters()), _outer_blocks(model, calls)))
    if not blocks or not features:
        return None
    resolution = blocks[0].shape_out
    layers = list(takewhile(lambda c: c.shape_out == resolution and _is_layer(model, c), blocks))
    called = Counter(c.path for c in calls)
    once = [c for c in layers or blocks[:1] if called[c.path] == 1]  # a hook keeps the last of several calls
    if not once:
        return None
    stem = once[-1]
    first = next(i for i, c in enumerate(calls) if c.path == features[0])
    in_front = calls.index(stem) < first and calls[first].shape_out == resolution
    return stem.path if in_front else None


def _is_layer(model: nn.Module, call: Call) -> bool:
    return not list(model.get_submodule(call.path).children())


def _is_block(model: nn.Module, call: Call, calls: list[Call]) -> bool:
    """Whether a module is one step from its input's resolution to its output's, with no other in between.

    A module that keeps the resolution is one step, whatever it does inside: attention has maps (B, heads, t, t) there.
    """
    if type(model.get_submodule(call.path)) is nn.Sequential:
        return False
    if call.shape_in == call.shape_out:
        return True
    inside = {c.shape_out for c in calls if c.path.startswith(f"{call.path}.") and c.shape_out}
    return inside <= {call.shape_in, call.shape_out}


def _as_float(x: Tensor) -> Tensor:
    """In float32, and usable in a loss: what a network computed in inference mode is not."""
    return x.float().clone() if x.is_inference() else x.float()


class FeatureExtractor:
    """Runs a network and returns what hooks on its modules read, in float32; a context that takes the hooks off."""

    def __init__(self, model: nn.Module, points: FeaturePoints, needs: frozenset[Need]) -> None:
        """Put hooks on the network.

        Args:
            model: x (B, ...) -> (B, C) logits.
            points: where it is read.
            needs: what is read; the other parts of the outputs stay empty.
        """
        self.model = model
        self._seen: dict[str, Tensor] = {}
        self._features = points.features if "features" in needs else ()
        self._stem = points.stem if "stem" in needs else None
        self._wants_embedding, self._sequence_first = "embedding" in needs, points.sequence_first
        self._handles = [
            model.get_submodule(path).register_forward_hook(self._keep_output(path))
            for path in (*self._features, *filter(None, [self._stem]))
        ]
        if self._wants_embedding and points.classifier is not None:
            self._handles.append(model.get_submodule(points.classifier).register_forward_pre_hook(self._keep_input()))

    def _keep_output(self, path: str) -> Any:
        sequence_first = path in self._sequence_first

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen = first_output(output)
            self._seen[path] = seen.transpose(0, 1) if sequence_first else seen

        return keep

    def _keep_input(self) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen[""] = inputs[0]

        return keep  # a function, not a method: copies of the model then carry no outputs along

    def __call__(self, x: Tensor) -> Outputs:
        """Run the network on x (B, ...)."""
        self._seen.clear()
        with without_fast_path() if self._handles else nullcontext():
            logits = _as_float(self.model(x))
        features = tuple(_as_float(self._seen[path]) for path in self._features)
        embedding = _as_float(self._seen.get("", logits).flatten(1)) if self._wants_embedding else logits[:, :0]
        stem = None if self._stem is None else _as_float(self._seen[self._stem])
        return Outputs(logits, features, embedding, stem)

    def __enter__(self) -> "FeatureExtractor":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off the network again."""
        for handle in self._handles:
            handle.remove()
