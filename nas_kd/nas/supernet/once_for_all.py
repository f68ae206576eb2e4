"""Once for all: one elastic network is trained, its sub-networks are searched with the weights that they inherit.

Cai et al. 2019 (arXiv:1908.09791); trained in one stage by the sandwich rule, judged after their batch statistics were
estimated anew (Yu et al. 2020, BigNAS, arXiv:2003.11142). The search is an evolution by non-dominated rank and crowding
under predicted costs; what it ends with was measured.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from nas_kd.commands.worker_pool import WorkerPool
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.errors import TrialError
from nas_kd.kd.chain import Chain
from nas_kd.kd.checkpoints import run_from_checkpoint
from nas_kd.methods.sandwich import Sandwich
from nas_kd.models.supernet import Supernet
from nas_kd.nas.cost_model import CostModel
from nas_kd.nas.gate import Gate
from nas_kd.nas.successive_halving import best_first
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler, Genotype
from nas_kd.results.candidate import Architecture
from nas_kd.results.limits import within_budget
from nas_kd.results.records import Costs, OnceForAllRecord

EPOCHS = 2  # of the elastic network, times a student's
POOL = 256  # sub-networks that take part in its training
DRAWN_A_STEP = 2  # of them, beside the largest and the smallest
LADDER, DRAWN = 8, 24  # networks that the cost model starts from
TRIES = 40  # random architectures drawn, for each that is wanted
POPULATION = 64
AT_A_TIME = 8  # are judged by one of the crew
MEASURED = 4  # new ones a generation, to keep the cost model honest where the search is
ROUND_OFF = 0.02  # predictions may miss the budget by so much
SHARE = 0.5  # of the time that is left to judge sub-networks and to distil the best of them: so much to judge


@dataclass(frozen=True)
class SubNetwork:
    """A part of the elastic network. `accuracy`: on validation, with inherited weights, 0..1."""

    architecture: Architecture
    genotype: Genotype
    accuracy: float


class OnceForAll:
    """One run's elastic network and the search among its sub-networks; all that takes long is kept in the store."""

    def __init__(self, chain: Chain, gate: Gate, pool: WorkerPool, teacher: Teacher) -> None:
        self._chain, self._gate, self._crew, self._teacher = chain, gate, pool, teacher
        self._context, self._builder = chain.context, chain.builder
        self._config = self._context.config
        self._options = self._config.search.once_for_all
        self._sampler = ArchitectureSampler(self._context.space, self._context.seed)
        self._costs: dict[Architecture, Costs] = {}
        self._measuring_s = 0.0  # all of them together
        self._model = CostModel(self._builder, self._config.budget)
        self._judged: dict[Architecture, SubNetwork] = {}
        self._broken: set[Architecture] = set()

    def search(self, until: float) -> tuple[list[SubNetwork], OnceForAllRecord]:
        """The sub-networks to distil, measured and within the budget, the best first; and what it took.

        Args:
            until: when their distillation has to be over, too (`time.monotonic`, s). The elastic network is trained
                whatever that takes; of what is left then, half is for judging and for measuring the best. `members` at
                least are judged, and one at least is measured.

        Raises:
            TrialError: the elastic network cannot be trained.
        """
        callback = self._context.callback
        callback.on_stage("measuring a sample of the space")
        self._measure([*self._context.space.size_ladder(LADDER), *(self._random() for _ in range(DRAWN))])
        callback.on_stage("training the elastic network")
        key, seconds = self._train()
        callback.on_stage("searching among its sub-networks")
        started = time.monotonic()
        half = started + SHARE * (until - started)
        self._evolve(key, half - self._options.members * self._measuring_s / max(1, len(self._costs)))
        members = self._members(half)
        record = OnceForAllRecord(
            key=key,
            epochs=self._schedule.epochs,
            networks_a_step=2 + DRAWN_A_STEP,
            training_s=round(seconds, 3),
            search_s=round(time.monotonic() - started, 3),
            evaluated=len(self._judged),
            measured=len(self._costs),
            latency_error=round(self._model.latency_error, 4),
            inherited=tuple(m.accuracy for m in members),
        )
        return members, record

    def _random(self) -> Architecture:
        return self._sampler.architecture(self._sampler.random())

    def _measure(self, architectures: Iterable[Architecture]) -> None:
        """Costs of those that have none yet, and the model fitted anew."""
        started = time.monotonic()
        for architecture in architectures:
            if architecture not in self._costs:
                try:
                    self._costs[architecture] = self._gate.all_costs(
                        architecture, precision=self._config.search.precisions[0], quick=True
                    )
                except TrialError as error:
                    self._broken.add(architecture)
                    self._context.callback.on_note(f"a sub-network is left out: {error}")
        self._measuring_s += time.monotonic() - started
        self._model.fit(self._costs)

    def _fits(self, architecture: Architecture) -> bool:
        """Whether it is within the budget, measured or, failing that, as predicted."""
        if architecture in self._broken:
            return False
        if architecture in self._costs:
            return within_budget(self._costs[architecture], self._config.budget)
        return self._model.log_excess(architecture) <= ROUND_OFF

    @property
    def _schedule(self) -> Schedule:
        return Schedule.of(self._config.distill, self._options.epochs or EPOCHS * self._config.distill.epochs)

    def _pool(self) -> list[Architecture]:
        """Sub-networks within the budget, different from each other, in random order."""
        found = {a: None for a in self._costs if self._fits(a)}
        for _ in range(TRIES * POOL):
            if len(found) >= POOL:
                break
            if self._fits(architecture := self._random()):
                found[architecture] = None
        return list(found)

    def _train(self) -> tuple[str, float]:
        """Leave the trained network, its weights averaged, in the store: under which key, and how long that took."""
        context, pool = self._context, self._pool()
        smallest = context.space.size_ladder(2)[0]
        if not pool:
            raise TrialError("no sub-network is within the budget as predicted")
        shown = max(pool, key=self._builder.macs)
        facts = {"elastic": [a.to_json() for a in (smallest, shown, *pool)], "seed": context.seed}
        key = self._chain.key_of(facts, self._schedule, [self._teacher])
        builder, seed = self._builder, context.seed
        with context.store.lock("weights", key):
            if (entry := context.store.load("weights", key)) is None:
                elastic = Supernet(lambda a: builder.build(a, seed), context.space.size_ladder(2)[-1], shown)
                training = self._training(elastic, Sandwich(smallest, pool, DRAWN_A_STEP))
                run_from_checkpoint(context, training, "the elastic network", key, self._schedule.epochs)
                (averaged,) = training.averaged_students()
                state = {k: v.contiguous() for k, v in averaged.get_submodule("weights").state_dict().items()}
                context.store.save("weights", key, state, {"seconds": training.seconds})
                context.store.remove("checkpoint", key)
                entry = context.store.load("weights", key)
        if entry is None:
            raise OSError(f"{context.store.root}: the elastic network was written and cannot be read")
        return key, float(entry.meta["seconds"])

    def _training(self, elastic: Supernet, method: Sandwich) -> Training:
        setup = self._chain.setup(self._schedule, self._context.seed)
        return Training(elastic, [self._chain.outputs.of(self._teacher)], method, setup, lambda _: elastic)

    def _evolve(self, key: str, until: float) -> None:
        """Judge `evaluations` sub-networks, or as many as there is time for: random ones, then children of the best."""
        tries = iter(range(TRIES * self._options.evaluations))
        goes_on = True
        while goes_on and len(self._judged) < self._options.evaluations:
            ranked = self._ranked(POPULATION // 2)
            self._measure([s.architecture for s in ranked if s.architecture not in self._costs][:MEASURED])
            goes_on = self._judge(self._generation(ranked, tries), key, until)

    def _generation(self, parents: list[SubNetwork], tries: Iterator[int]) -> Iterator[tuple[Architecture, Genotype]]:
        """New sub-networks that are likely to be within the budget, as many as a generation wants, each once."""
        wanted = min(POPULATION, self._options.evaluations - len(self._judged))
        known = set(self._judged)
        while wanted > 0 and next(tries, None) is not None:
            genotype = self._born(parents)
            architecture = self._sampler.architecture(genotype)
            if architecture not in known and self._fits(architecture):
                known.add(architecture)
                wanted -= 1
                yield architecture, genotype

    def _judge(self, generation: Iterator[tuple[Architecture, Genotype]], key: str, until: float) -> bool:
        """Let the crew judge them, a few at a time, while more are born; False: there are none, or no time for more."""
        born: dict[Architecture, Genotype] = {}
        found: dict[Architecture, float] = {}
        late = False
        while not late and (share := dict(islice(generation, AT_A_TIME))):
            born |= share
            while not self._crew.has_room:
                self._hear(found)
            self._crew.submit({"inherited": [a.to_json() for a in share], "elastic": key})
            late = time.monotonic() >= until and len(self._judged) + len(born) >= self._options.members
        while self._crew.busy:
            self._hear(found)
        self._judged |= {a: SubNetwork(a, genotype, found[a]) for a, genotype in born.items() if a in found}
        return bool(born) and not late

    def _hear(self, found: dict[Architecture, float]) -> None:
        """What one of the crew has to say of sub-networks; those that cannot be judged are left out."""
        answer, callback = self._crew.wait(), self._context.callback
        if "inherited" not in answer.job:
            return  # outputs that the elastic network would have made itself
        architectures = [Architecture.from_json(value) for value in answer.job["inherited"]]
        if answer.error is not None:
            self._broken.update(architectures)
            callback.on_note(f"{len(architectures)} sub-networks are left out: {answer.error}")
        else:
            found.update(zip(architectures, answer.result["accuracies"], strict=True))
        callback.on_progress("sub-networks judged:", len(self._judged) + len(found), self._options.evaluations)

    def _born(self, parents: list[SubNetwork]) -> Genotype:
        if len(parents) < 2:
            return self._sampler.random()
        mother, father = (parents[i].genotype for i in self._sampler.pick(len(parents), 2))
        return self._sampler.child(mother, father)

    def _ranked(self, most: int) -> list[SubNetwork]:
        """The best judged within the budget: by front, then by the room around them."""
        fitting = [s for s in self._judged.values() if self._fits(s.architecture)]
        return [fitting[i] for i in best_first([self._point(s) for s in fitting], most)] if fitting else []

    def _point(self, sub: SubNetwork) -> tuple[float, float, float]:
        return 1 - sub.accuracy, *self._model.predict(sub.architecture)

    def _members(self, until: float) -> list[SubNetwork]:
        """The front's first, all of them measured: while some are not, a few are, and the ranking is made again.

        After `until` those that were not measured are left out.
        """
        while True:
            ranked = self._ranked(self._options.members)
            unknown = [s.architecture for s in ranked if s.architecture not in self._costs]
            measured = [s for s in ranked if s.architecture in self._costs]
            if not unknown or (measured and time.monotonic() >= until):
                return measured
            self._measure(unknown[:MEASURED])
