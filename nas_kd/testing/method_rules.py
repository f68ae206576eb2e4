"""What a distillation method must hold: what it declares, what its calls return, and what they leave alone."""

from typing import get_args

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Method, Need
from nas_kd.testing.method_case import MethodCase
from nas_kd.testing.rules import fault_of_line, first_difference
from nas_kd.testing.toy_networks import SIDE
from nas_kd.testing.toy_training import student_of

LONGEST_SUMMARY = 110  # characters: a line of `nas-kd list methods`
TUNABLE = frozenset({"temperature", "strength"})


def declares_itself(case: MethodCase) -> str | None:
    """The class declares what the engine, the search and the reports read."""
    method = case.method
    if not isinstance(method, Method):
        return f"{type(method).__name__} is no nas_kd.methods.base.Method"
    lines = {"name": None, "source": None, "summary": LONGEST_SUMMARY}
    for attribute, longest in lines.items():
        if fault := fault_of_line(attribute, getattr(method, attribute, None), longest):
            return fault
    fitting = {
        "teachers": method.teachers in {"none", "one", "several"},
        "needs": set(method.needs) <= set(get_args(Need)),
        "tunable": set(method.tunable) <= TUNABLE,
        "ce_weight": method.ce_weight >= 0,
        "target_grad_ratio": method.target_grad_ratio is None or method.target_grad_ratio > 0,
        "train_cost_factor": method.train_cost_factor >= 1,
        "generations": method.generations == 0 or (method.generations > 0 and method.teachers == "one"),
    }
    wrong = [attribute for attribute, fits in fitting.items() if not fits]
    return f"{wrong[0]} is {getattr(method, wrong[0])!r}" if wrong else None


def takes_both_parameters(case: MethodCase) -> str | None:
    """The search's temperature and strength are taken, and None means the default temperature."""
    for made in case.fresh(3.0, 0.5).parts():
        if (made.temperature, made.strength) != (3.0, 0.5):
            return f"given temperature 3.0 and strength 0.5, it has {made.temperature} and {made.strength}"
    for part in case.method.parts():
        if part.temperature != part.default_temperature:
            return f"given None, its temperature is {part.temperature}, not {part.default_temperature}"
    return None


def shows_every_sample_once(case: MethodCase) -> str | None:
    """An epoch shows every sample once, in an order that follows from the generator."""
    for labels in (torch.arange(37) % 4, torch.zeros(6, dtype=torch.int64), torch.arange(5)):
        first, again, other = (case.method.order(labels, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        if first.sort().values.tolist() != list(range(len(labels))):
            return f"order gives {first.tolist()} for {len(labels)} samples"
        if not torch.equal(first, again):
            return "order gives two orders for one seed of its generator"
        if len(labels) > 9 and torch.equal(first, other):
            return "order gives one order for two seeds of its generator"
    return None


def learns_from_the_batch(case: MethodCase) -> str | None:
    """Only a method that needs the teacher's network makes up samples."""
    if "network" in case.method.needs:
        return None
    real = Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2), 0.0)
    return None if case.method.draw(lambda: real) is real else "draw returns another batch than the real one"


def attaches_without_trace(case: MethodCase) -> str | None:
    """Attaching leaves the student as it was and takes no parameter of student or teacher for the method's own."""
    toy = case.watched.toy
    if changed := first_difference(student_of(case.pair[0]).state_dict(), case.watched.initial[0]):
        return f"the student's {changed} has changed, is gone or is new"
    own = {id(p) for p in toy.method.parameters()}
    shared = any(id(p) in own for network in (toy.student, *toy.teachers) for p in network.parameters())
    return "parameters of the student or a teacher are registered as the method's own" if shared else None


def leaves_generators_alone(case: MethodCase) -> str | None:
    """Attaching and training leave the global random generators of torch, NumPy and Python as they were."""
    return case.watched.moved


def returns_finite_scalars(case: MethodCase) -> str | None:
    """Every term is a named finite scalar."""
    return case.watched.watch.term_fault


def changes_no_input(case: MethodCase) -> str | None:
    """The outputs and batches given to forward are not changed."""
    return case.watched.watch.input_fault


def trains_to_the_end(case: MethodCase) -> str | None:
    """A training of two epochs runs to its end and leaves finite weights."""
    return not_finite(case.watched.ended_well().ended)


def declares_its_terms(case: MethodCase) -> str | None:
    """There are terms, unless nothing is needed, and those that strength does not scale are among them."""
    method, terms = case.method, case.watched.watch.terms
    if unknown := method.unscaled_terms - terms:
        return f"unscaled_terms names {min(unknown)!r}; terms are {', '.join(sorted(terms)) or 'none'}"
    if not terms and (method.needs or method.teachers != "none"):
        return f"no terms, though it needs {', '.join(sorted(method.needs)) or 'teachers'}"
    if method.teachers != "none" and not method.needs:
        return f"needs is empty, though teachers is {method.teachers!r}"
    return None


def teaches_the_student(case: MethodCase) -> str | None:
    """Some term has a gradient on the student's weights."""
    watch = case.watched.watch
    silent = watch.terms and not watch.teaches
    return f"{', '.join(sorted(watch.terms))}: no gradient, or zero in every step" if silent else None


def trains_all_parameters(case: MethodCase) -> str | None:
    """Every trained parameter of student and method gets a gradient."""
    missing = case.watched.without_gradient
    return f"{missing[0]}: no gradient, or zero in every step" if missing else None


def leaves_teachers_alone(case: MethodCase) -> str | None:
    """Attaching and training leave the teachers as they were."""
    toy = case.watched.toy
    for i, (teacher, before) in enumerate(zip(toy.teachers, toy.untouched_teachers, strict=True)):
        if changed := first_difference(before, teacher.state_dict()):
            return f"teacher {i}: {changed} has changed"
        if any(p.requires_grad or p.grad is not None for p in teacher.parameters()):
            return f"teacher {i}: its parameters have gradients"
        if any(m.training for m in teacher.modules()):
            return f"teacher {i} is in training mode"
    return None


def keeps_its_state(case: MethodCase) -> str | None:
    """The names and shapes of the method's state are those that it had once attached."""
    states = (case.watched.initial_method, case.watched.toy.method.state_dict())
    before, after = ({k: (v.dtype, v.shape) for k, v in state.items()} for state in states)
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if changed:
        return f"{changed[0]} was {_shape(before.get(changed[0]))}, is {_shape(after.get(changed[0]))}"
    return None


def reads_no_samples(case: MethodCase) -> str | None:
    """A method that makes up its samples never reads a training sample."""
    if "network" not in case.method.needs:
        return None
    toy = case.start(secret=True).run(until=1)

    def real() -> Batch:
        raise AssertionError("draw asked for a real batch")

    batch = toy.method.draw(real)
    if batch.x.shape[1:] != (1, SIDE, SIDE) or batch.x.dtype != torch.float32:
        return f"draw gives samples {tuple(batch.x.shape)} of {batch.x.dtype} for images (1, 8, 8) of torch.float32"
    if batch.y.shape != batch.x.shape[:1] or len(batch.indices):
        return f"draw gives {tuple(batch.y.shape)} labels and {len(batch.indices)} indices for {len(batch.x)} samples"
    return None


def not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The first tensor with NaN or infinity, or None; methods may keep infinity in buffers before training."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    return f"{bad[0]} is not finite" if bad else None


def _shape(found: tuple[torch.dtype, torch.Size] | None) -> str:
    return "absent" if found is None else f"{tuple(found[1])} of {found[0]}"
