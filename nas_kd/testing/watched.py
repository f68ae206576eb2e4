"""Watches a method at work: what each call of `forward` is given, what it returns, and what it changes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.testing.generators import generator_states, moved_generators
from nas_kd.testing.rules import copied, first_difference
from nas_kd.testing.toy_training import ToySettings, ToyTraining, start

Inputs = tuple[Outputs, Sequence[Outputs], Batch]


class Watch:
    """What was seen of a method during a training; of each kind of fault the first is kept.

    Attributes:
        terms: names of all terms returned.
        teaches: whether some term had a gradient on the student's weights that is not zero.
        term_fault: what was wrong with a term or with what `forward` returned.
        input_fault: which input `forward` changed.
        generator: state of torch's generator after the last call.
    """

    def __init__(self, toy: ToyTraining) -> None:
        self.terms: set[str] = set()
        self.teaches = False
        self.term_fault: str | None = None
        self.input_fault: str | None = None
        self.generator = torch.get_rng_state()
        self._weights = [p for p in toy.student.parameters() if p.requires_grad]
        self._before: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        for part in toy.method.parts():
            self._handles.append(part.register_forward_pre_hook(self._remember))
            self._handles.append(part.register_forward_hook(self._look))

    def close(self) -> None:
        """Stop watching; the method is left without hooks."""
        for handle in self._handles:
            handle.remove()

    def _remember(self, _method: nn.Module, inputs: Inputs) -> None:
        self._before = copied(tensors_of(inputs))

    def _look(self, _method: nn.Module, inputs: Inputs, terms: Any) -> None:
        changed = first_difference(self._before, tensors_of(inputs))
        self.input_fault = self.input_fault or (None if changed is None else f"forward changed {changed}")
        self.generator = torch.get_rng_state()
        self.term_fault = self.term_fault or fault_of_terms(terms)
        if self.term_fault is None:
            self.terms |= set(terms)
            self.teaches = self.teaches or self._reaches_student(list(terms.values()))

    def _reaches_student(self, terms: list[Tensor]) -> bool:
        learnt = [term for term in terms if term.requires_grad]
        if not learnt:
            return False
        total = torch.stack([term.float() for term in learnt]).sum()
        gradients = torch.autograd.grad(total, self._weights, retain_graph=True, allow_unused=True)
        return any(g is not None and bool(g.any()) for g in gradients)


def tensors_of(inputs: Inputs) -> dict[str, Tensor]:
    """All tensors that `Method.forward` is given, by a name that a message can use."""
    student, teachers, batch = inputs
    named = {"batch.x": batch.x, "batch.y": batch.y, "batch.indices": batch.indices}
    for owner, outputs in (("student", student), *((f"teachers[{i}]", t) for i, t in enumerate(teachers))):
        named |= {f"{owner}.logits": outputs.logits, f"{owner}.embedding": outputs.embedding}
        named |= {f"{owner}.features[{i}]": f for i, f in enumerate(outputs.features)}
        named |= {} if outputs.stem is None else {f"{owner}.stem": outputs.stem}
    return named


def fault_of_terms(terms: Any) -> str | None:
    """What is wrong with the value of `Method.forward`, or None."""
    if not isinstance(terms, dict):
        return f"forward returned {type(terms).__name__}, not a dict of terms by name"
    for name, term in terms.items():
        if not isinstance(name, str) or not name.isprintable() or name in {"", "ce"}:
            return f"a term is called {name!r}; names are text, and 'ce' is the engine's own term"
        if not isinstance(term, Tensor) or not term.is_floating_point():
            return f"term {name!r} is {term.dtype if isinstance(term, Tensor) else type(term).__name__}"
        if term.ndim:
            return f"term {name!r} has shape {tuple(term.shape)}"
        if not torch.isfinite(term):
            return f"term {name!r} is {term.item()}"
    return None


class GradientLog:
    """Which parameters of student and method get a gradient that is not zero in some step."""

    def __init__(self, toy: ToyTraining) -> None:
        modules = {"student": toy.student, "method": toy.method}
        named = {f"{kind} {path}": p for kind, module in modules.items() for path, p in module.named_parameters()}
        self._missing = {name for name, parameter in named.items() if parameter.requires_grad}
        self._handles = [
            named[name].register_hook(self._note(name))  # type: ignore[no-untyped-call]
            for name in self._missing
        ]

    def close(self) -> list[str]:
        """Stop watching; returns the parameters without any such gradient, as `student stem.weight`, sorted."""
        for handle in self._handles:
            handle.remove()
        return sorted(self._missing)

    def _note(self, name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            if gradient.any():
                self._missing.discard(name)

        return note


class WatchedTraining:
    """A training under watch from before the method is attached.

    Attributes:
        toy: the training, ended unless `error` is set.
        watch: what the method did.
        initial: states of the networks that may be deployed, the student's first, once the method was attached.
        initial_method: the method's own state then.
        halfway: the state after one epoch.
        checkpoint: what a checkpoint holds then.
        ended: the state after the last epoch.
        generators: torch's generator, once `attached` and after the last step (`stepped`).
        moved: which global generators the training left in another state than it found them in.
        without_gradient: parameters that never got a gradient other than zero.
        error: what ended it early.
    """

    def __init__(self, method: Method, settings: ToySettings, until: int) -> None:
        self.error: Exception | None = None
        self.generators: dict[str, Tensor] = {}
        self.halfway: dict[str, Tensor] = {}
        self.checkpoint: dict[str, Tensor] = {}
        self.ended: dict[str, Tensor] = {}
        before = generator_states()
        self._note_attach(method)
        self.toy = toy = start(method, settings)
        self.initial = [copied(network.state_dict()) for network in toy.deployable]
        self.initial_method = copied(method.state_dict())
        gradients = GradientLog(toy)
        self.watch = Watch(toy)
        self._run(until)
        self.watch.close()
        self.generators["stepped"] = self.watch.generator
        self.moved = moved_generators(before)
        self.without_gradient = gradients.close()

    def ended_well(self) -> "WatchedTraining":
        """This training, if nothing ended it early; otherwise raises what did."""
        if self.error is not None:
            raise self.error
        return self

    def _note_attach(self, method: Method) -> None:
        attach = method.attach

        def noted(context: MethodContext) -> None:
            attach(context)
            self.generators["attached"] = torch.get_rng_state()

        method.attach = noted  # type: ignore[method-assign]

    def _run(self, until: int) -> None:
        try:
            self.halfway = self.toy.run(until=1).state()
            self.checkpoint = copied(self.toy.training.state())
            self.ended = self.toy.run(until=until).state()
        except Exception as error:  # kept: the rule that comes first names the fault best
            self.error = error


def with_equal_outputs(_method: nn.Module, inputs: Inputs) -> Inputs:
    """A forward pre-hook: all logits become 0, all features and embeddings 1, the gradient's way to them is kept."""
    student, teachers, batch = inputs
    return _equal(student), [_equal(t) for t in teachers], _one_sample(batch)


def _equal(outputs: Outputs) -> Outputs:
    features = tuple(f * 0 + 1 for f in outputs.features)
    stem = None if outputs.stem is None else outputs.stem * 0 + 1
    return Outputs(outputs.logits * 0, features, outputs.embedding * 0 + 1, stem)


def _one_sample(batch: Batch) -> Batch:
    """The batch with its first sample in the place of all."""
    return batch._replace(x=batch.x[:1].expand_as(batch.x).clone())
