"""Once for all: one elastic network is trained, and its sub-networks are searched with the weights that they inherit.

Cai et al. 2019 (arXiv:1908.09791); Yu et al. 2020 (BigNAS, arXiv:2003.11142). The search is an evolution by
non-dominated rank and crowding distance under predicted costs; the candidates that it ends with were measured.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback
from nas_kd.errors import TrialError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import SearchSpace
from nas_kd.nas.cost_model import CostModel
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import EvaluateSubnets
from nas_kd.nas.search_plan import SupernetPlan
from nas_kd.nas.successive_halving import best_first
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler, Genotype
from nas_kd.nas.supernet.supernet_trainer import SupernetTrainer
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.candidate import Architecture
from nas_kd.results.limits import within_budget
from nas_kd.results.run_record import OnceForAllRecord
from nas_kd.results.trial_record import Costs

MAX_TRIES = 40  # random architectures drawn, for each that is wanted
SUBNETS_PER_JOB = 8
TOLERANCE = 0.02  # log of the factor by which a prediction may miss the budget


@dataclass(frozen=True)
class SubNetwork:
    """A part of the elastic network; `score`: on validation samples, with inherited weights, 0..1."""

    architecture: Architecture
    genotype: Genotype
    score: float


class OnceForAll:
    """One run's search among the sub-networks of an elastic network; what takes long is kept in the store."""

    def __init__(
        self,
        space: SearchSpace,
        builder: NetworkBuilder,
        gate: Gate,
        pool: WorkerPool,
        trainer: SupernetTrainer,
        *,
        plan: SupernetPlan,
        budget: Budget,
        precision: str,
        seed: int,
        callback: Callback,
    ) -> None:
        """Search with these parts.

        Args:
            space: of students.
            builder: counts multiply-adds.
            gate: measures costs.
            pool: workers, which judge sub-networks.
            trainer: trains the elastic network.
            plan: numbers of networks drawn, judged and measured.
            budget: limits of costs.
            precision: in which costs are measured.
            seed: of random draws.
            callback: receives stages, notes and progress.
        """
        self._space, self._builder, self._gate, self._pool, self._trainer = space, builder, gate, pool, trainer
        self._plan, self._budget, self._precision, self._callback = plan, budget, precision, callback
        self._sampler = ArchitectureSampler(space, seed)
        self._costs: dict[Architecture, Costs] = {}
        self._measuring_s = 0.0  # all of them together
        self._model = CostModel(builder, budget)
        self._judged: dict[Architecture, SubNetwork] = {}
        self._broken: set[Architecture] = set()

    def search(self, until: float) -> tuple[list[SubNetwork], OnceForAllRecord]:
        """Find the sub-networks to distill: measured, within the budget, the best first.

        Args:
            until: when their distillation has to be over, too (`time.monotonic`, s). The elastic network is trained
                however long that takes; half of what is left then is for judging and for measuring the best. At least
                `members` are judged, and at least one is measured.

        Returns:
            The sub-networks, and the record of the search.

        Raises:
            TrialError: the elastic network cannot be trained.
        """
        plan, callback = self._plan, self._callback
        callback.on_stage("measuring a sample of the space")
        sample = (self._random() for _ in range(plan.n_sampled))
        self._measure([*self._builder.size_ladder(plan.ladder_size), *sample])
        callback.on_stage("training the elastic network")
        key, seconds = self._trainer.train(self._training_pool())
        callback.on_stage("searching among its sub-networks")
        started = time.monotonic()
        judged_by = started + plan.judging_share * (until - started)
        self._evolve(key, judged_by - plan.members * self._measuring_s / max(1, len(self._costs)))
        members = self._members(judged_by)
        record = OnceForAllRecord(
            key=key,
            epochs=plan.epochs,
            networks_a_step=plan.networks_per_step,
            training_s=round(seconds, 3),
            search_s=round(time.monotonic() - started, 3),
            evaluated=len(self._judged),
            measured=len(self._costs),
            latency_error=round(self._model.latency_error, 4),
            inherited=tuple(m.score for m in members),
        )
        return members, record

    def _random(self) -> Architecture:
        return self._sampler.draw()

    def _measure(self, architectures: Iterable[Architecture]) -> None:
        """Measure the costs of those that have none yet, and fit the cost model anew."""
        started = time.monotonic()
        for architecture in architectures:
            if architecture not in self._costs:
                try:
                    self._costs[architecture] = self._gate.all_costs(
                        architecture, precision=self._precision, quick=True
                    )
                except TrialError as error:
                    self._broken.add(architecture)
                    self._callback.on_note(f"a sub-network is left out: {error}")
        self._measuring_s += time.monotonic() - started
        self._model.fit(self._costs)

    def _fits(self, architecture: Architecture) -> bool:
        """Whether it is within the budget, as measured or, failing that, as predicted."""
        if architecture in self._broken or not self._builder.can_build(architecture):
            return False
        if architecture in self._costs:
            return within_budget(self._costs[architecture], self._budget)
        return self._model.log_excess(architecture) <= TOLERANCE

    def _training_pool(self) -> list[Architecture]:
        """Draw sub-networks within the budget, different from each other, in random order."""
        found = {a: None for a in self._costs if self._fits(a)}
        for _ in range(MAX_TRIES * self._plan.pool_size):
            if len(found) >= self._plan.pool_size:
                break
            if self._fits(architecture := self._random()):
                found[architecture] = None
        return list(found)

    def _evolve(self, key: str, until: float) -> None:
        """Judge as many sub-networks as planned, or as there is time for: random ones, then children of the best."""
        tries = iter(range(MAX_TRIES * self._plan.evaluations))
        goes_on = True
        while goes_on and len(self._judged) < self._plan.evaluations:
            ranked = self._ranked(self._plan.population // 2)
            unmeasured = [s.architecture for s in ranked if s.architecture not in self._costs]
            self._measure(unmeasured[: self._plan.measured_per_generation])
            goes_on = self._judge(self._generation(ranked, tries), key, until)

    def _generation(self, parents: list[SubNetwork], tries: Iterator[int]) -> Iterator[tuple[Architecture, Genotype]]:
        """Draw new sub-networks that are likely to be within the budget, a generation of them, each once."""
        wanted = min(self._plan.population, self._plan.evaluations - len(self._judged))
        known = set(self._judged)
        while wanted > 0 and next(tries, None) is not None:
            genotype = self._child(parents)
            try:
                architecture = self._sampler.architecture(genotype)
            except TrialError:  # the space does not accept it
                continue
            if architecture not in known and self._fits(architecture):
                known.add(architecture)
                wanted -= 1
                yield architecture, genotype

    def _judge(self, generation: Iterator[tuple[Architecture, Genotype]], key: str, until: float) -> bool:
        """Let the workers judge them, a few at a time, while more are drawn; False: none, or no time for more."""
        drawn: dict[Architecture, Genotype] = {}
        found: dict[Architecture, float] = {}
        late = False
        while not late and (share := dict(islice(generation, SUBNETS_PER_JOB))):
            drawn |= share
            while not self._pool.has_room:
                self._collect(found)
            self._pool.submit(EvaluateSubnets(tuple(share), key))
            late = time.monotonic() >= until and len(self._judged) + len(drawn) >= self._plan.members
        while self._pool.busy:
            self._collect(found)
        self._judged |= {a: SubNetwork(a, genotype, found[a]) for a, genotype in drawn.items() if a in found}
        return bool(drawn) and not late

    def _collect(self, found: dict[Architecture, float]) -> None:
        """Collect a worker's accuracies; sub-networks that cannot be judged are left out."""
        done = self._pool.wait()
        if not isinstance(done.job, EvaluateSubnets):
            return  # teachers' outputs, which the elastic network's training would have computed itself
        if done.error is not None:
            self._broken.update(done.job.architectures)
            self._callback.on_note(f"{len(done.job.architectures)} sub-networks are left out: {done.error}")
        else:
            judged = done.job.result(done.result)
            self._broken.update(a for a in done.job.architectures if a not in judged)
            found.update(judged)
        self._callback.on_progress("sub-networks judged:", len(self._judged) + len(found), self._plan.evaluations)

    def _child(self, parents: list[SubNetwork]) -> Genotype:
        if len(parents) < 2:
            return self._sampler.random()
        mother, father = (parents[i].genotype for i in self._sampler.pick(len(parents), 2))
        return self._sampler.child(mother, father)

    def _ranked(self, most: int) -> list[SubNetwork]:
        """Rank the judged ones within the budget: by front, then by crowding distance."""
        fitting = [s for s in self._judged.values() if self._fits(s.architecture)]
        return [fitting[i] for i in best_first([self._point(s) for s in fitting], most)] if fitting else []

    def _point(self, sub: SubNetwork) -> tuple[float, float, float]:
        return 1 - sub.score, *self._model.predict(sub.architecture)

    def _members(self, until: float) -> list[SubNetwork]:
        """Choose the front's first, all measured: a few are measured, then the ranking is made again.

        After `until` those that were not measured are left out.
        """
        while True:
            ranked = self._ranked(self._plan.members)
            unknown = [s.architecture for s in ranked if s.architecture not in self._costs]
            measured = [s for s in ranked if s.architecture in self._costs]
            if not unknown or (measured and time.monotonic() >= until):
                return measured
            self._measure(unknown[: self._plan.measured_per_generation])
