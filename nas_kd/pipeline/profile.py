"""What a space costs on a device: a look before a search."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna

from nas_kd.config import SearchConfig
from nas_kd.pipeline.budget import excess
from nas_kd.pipeline.context import Context
from nas_kd.pipeline.folder import RunFolder
from nas_kd.pipeline.gate import Gate
from nas_kd.pipeline.networks import Builder
from nas_kd.pipeline.progress import Progress


@dataclass(frozen=True)
class SpaceProfile:
    """Costs over a sample: half from the ladder, half at random."""

    space: str
    cardinality: int
    sizes_kb: tuple[float, ...]
    latencies_ms: tuple[float, ...]
    within: int
    reachable: bool

    @property
    def sampled(self) -> int:
        """How many architectures were measured."""
        return len(self.sizes_kb)


def profile_space(config: SearchConfig, sample: int) -> SpaceProfile:
    """Export and measure `sample` architectures of the config's space on its device; nothing is trained."""
    with TemporaryDirectory() as folder:
        context = Context.prepare(config, RunFolder(Path(folder)), Progress())
        gate = Gate(context, Builder(context.data, context.space))
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=context.seed))
        ladder = context.space.ladder(max(2, sample // 2))
        drawn = [context.space.suggest(study.ask()) for _ in range(sample - len(ladder))]
        costs = [gate.costs(a, latency_even_if_too_large=True) for a in (*ladder, *drawn)]
    fitting = [excess(c, config.budget) <= 0 for c in costs]
    return SpaceProfile(
        space=context.space.name,
        cardinality=context.space.cardinality(),
        sizes_kb=tuple(c.size_bytes / 1000 for c in costs),
        latencies_ms=tuple(c.latency_ms.p50 for c in costs if c.latency_ms is not None),
        within=sum(fitting),
        reachable=any(fitting),
    )
