"""What a search space's choices must hold: dimensions, canonical architectures, descriptions, the ladder of sizes."""

import json
import math
from itertools import pairwise

import torch

from nas_kd.results.candidate import Architecture
from nas_kd.testing.generators import generator_states, moved_generators
from nas_kd.testing.rules import fault_of_line, first_difference
from nas_kd.testing.space_case import PREFIX, SpaceCase, n_values, values_of

LONGEST = 120  # characters of a description: a line of a report


def names_itself(case: SpaceCase) -> str | None:
    """The space has a name and a summary, one line each."""
    return next(
        (fault for a in ("name", "summary") if (fault := fault_of_line(a, getattr(case.space, a, None), LONGEST))), None
    )


def leaves_generators_alone(case: SpaceCase) -> str | None:
    """Drawing, counting, describing and the size ladder leave the global random generators as they were."""
    before = generator_states()
    architecture = case.chosen(case.draws[0].architecture.choices)
    case.space.size_ladder(3)
    case.space.cardinality()
    case.space.describe(architecture)
    return moved_generators(before)


def has_static_dimensions(case: SpaceCase) -> str | None:
    """Every draw has the same dimensions with the same ranges, each behind the prefix."""
    first = case.draws[0].distributions
    if not first:
        return "suggest asks the trial for nothing"
    for number, draw in enumerate(case.draws):
        for name in sorted(first.keys() | draw.distributions.keys()):
            seen = draw.distributions.get(name)
            if seen != first.get(name):
                return f"{name} is {first.get(name, 'absent')} in draw 0, {seen or 'absent'} in draw {number}"
    wrong = [name for name in first if not name.startswith(PREFIX)]
    return f"given the prefix {PREFIX!r}, the parameter is called {wrong[0]!r}" if wrong else None


def returns_canonical_architectures(case: SpaceCase) -> str | None:
    """An architecture names its space and all dimensions, survives JSON, and drawn again from its choices is itself."""
    for draw in case.draws:
        architecture = draw.architecture
        if architecture.space != case.space.name:
            return f"the architecture's space is {architecture.space!r}"
        if architecture.choices.keys() != case.dimensions.keys():
            return f"choices are {sorted(architecture.choices)}, dimensions {sorted(case.dimensions)}"
        if Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) != architecture:
            return f"JSON changes {architecture.to_json()}"
        if (again := case.chosen(architecture.choices)) != architecture:
            return f"{architecture.to_json()} is drawn again as {again.to_json()}"
    return None


def draws_differ(case: SpaceCase) -> str | None:
    """Random draws give different architectures, about as many as the space's size lets expect."""
    found = len({draw.architecture for draw in case.draws})
    size, n = case.space.cardinality(), len(case.draws)
    least = min(30, size * (1 - (1 - 1 / size) ** n) / 2) if size > 0 else 2  # half of what a uniform draw gives
    return f"{found} different ones in {n} draws of {size:,}" if found < max(2.0, least) else None


def names_every_network_once(case: SpaceCase) -> str | None:
    """Two architectures are two networks: choices without effect have one fixed value."""
    ends = [{name: values_of(d)[at] for name, d in case.dimensions.items()} for at in (0, -1)]
    for base in (*map(case.chosen, ends), *(draw.architecture for draw in case.draws[:2])):
        for name, distribution in case.dimensions.items():
            for value in values_of(distribution):
                other = case.chosen({**base.choices, name: value})
                if other != base and _same_network(case, base, other):
                    return f"{name} makes no difference between {base.to_json()} and {other.to_json()}"
    return None


def describes_in_one_line(case: SpaceCase) -> str | None:
    """A description is one line."""
    descriptions = (case.space.describe(draw.architecture) for draw in case.draws)
    return next((fault for text in descriptions if (fault := fault_of_line("describe", text, LONGEST))), None)


def counts_plausibly(case: SpaceCase) -> str | None:
    """The cardinality is at least what draws show and at most what the dimensions allow."""
    size, found = case.space.cardinality(), len({draw.architecture for draw in case.draws})
    most = math.prod(n_values(d) for d in case.dimensions.values())
    if type(size) is not int or not found <= size <= most:
        return f"cardinality is {size!r}; {found} different draws were seen, the dimensions allow {most:,}"
    return None


def climbs_evenly(case: SpaceCase) -> str | None:
    """The size ladder climbs strictly, by even steps, and has the length asked for as far as there are networks."""
    for n in (2, 4, 12):
        ladder = case.space.size_ladder(n)
        if ladder != case.space.size_ladder(n):
            return f"size_ladder({n}) differs from call to call"
        few = n**2 > case.space.cardinality()  # then it may be shorter or uneven
        if not (2 if few else n) <= len(ladder) <= n:
            return f"size_ladder({n}) has {len(ladder)} networks"
        sizes = [case.n_weights(a) for a in ladder]
        step = math.log(sizes[-1] / sizes[0]) / (n - 1)
        for below, above in pairwise(sizes):
            if above <= below:
                return f"a network of {above:,} weights follows one of {below:,}"
            if not few and math.log(above / below) >= 2 * step:
                return f"from {below:,} to {above:,} weights is more than two of {n - 1} even steps"
    return None


def spans_the_space(case: SpaceCase) -> str | None:
    """The size ladder lies in the space and goes from its smallest to its largest network."""
    ladder = case.space.size_ladder(4)
    for architecture in ladder:
        if (again := case.chosen(architecture.choices)) != architecture:
            return f"{architecture.to_json()} is drawn as {again.to_json()}"
    low, high = case.n_weights(ladder[0]), case.n_weights(ladder[-1])
    sizes = [case.n_weights(draw.architecture) for draw in case.draws]
    if min(sizes) < low or max(sizes) > high:
        return f"the ladder has {low:,} to {high:,} weights, draws {min(sizes):,} to {max(sizes):,}"
    return None


def _same_network(case: SpaceCase, a: Architecture, b: Architecture) -> bool:
    """Whether two architectures give the same tensors and, from one seed, the same outputs in training."""
    first, second = case.build(a), case.build(b)
    if first_difference(dict(first.state_dict()), dict(second.state_dict())):
        return False
    x, outputs = case.samples(4), []
    for network in (first, second):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            outputs.append(network.train()(x))
    return torch.equal(*outputs)
