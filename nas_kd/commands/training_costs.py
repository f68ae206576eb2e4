"""Counts what a run's trainings cost, in multiply-adds of forward passes per training sample.

Backward passes cost every network the same two forwards more, and cancel in shares.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

from nas_kd.config.options import TeacherOptions
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.controls import training_cost
from nas_kd.kd.training_work import CountsWork, TrainingWork
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.trial_record import TrialRecord, without_duplicates


def student_cost(candidate: Candidate, builder: CountsWork, epochs: int, full_epochs: int) -> float:
    """Count the multiply-adds of training what a candidate deploys, without assistants that others share.

    Args:
        candidate: student, chain and method.
        builder: counts multiply-adds.
        epochs: for which the student is trained.
        full_epochs: of the full schedule.
    """
    own = load_policy(candidate.policy).without_shared_assistants(candidate)
    return training_cost(own, builder, epochs, full_epochs)


def search_cost(trials: Iterable[TrialRecord], builder: CountsWork, full_epochs: int) -> float:
    """Count the multiply-adds of a search: all students as far as they came, and each chain of assistants once.

    A student that started again behind its assistants counts from its first epoch on both times.

    Args:
        trials: of the search.
        builder: counts multiply-adds.
        full_epochs: of the full schedule, which assistants are trained for.
    """
    students, chains = 0.0, set[tuple[str, tuple[Architecture, ...]]]()
    for trial in without_duplicates(trials):
        policy = load_policy(trial.candidate.policy)
        for without_assistants in (True, False):
            reached = max((r.epochs for r in trial.rungs if r.without_assistants == without_assistants), default=0)
            if reached:
                students += student_cost(trial.candidate, builder, reached, full_epochs)
            if reached and not without_assistants:
                chains |= {(trial.candidate.policy, chain) for chain in policy.reusable_chains(trial.candidate)}
    return students + full_epochs * sum(builder.macs(chain[-1]) for _, chain in chains)


def teachers_cost(teachers: Iterable[tuple[TeacherOptions, float]], full_epochs: int) -> float:
    """Count the multiply-adds of training the teachers that the tool trains itself.

    Args:
        teachers: options and multiply-adds of each.
        full_epochs: of those whose options do not say.
    """
    return float(sum(epochs * macs for epochs, macs in trained_teachers(teachers, full_epochs)))


def trained_teachers(teachers: Iterable[tuple[TeacherOptions, float]], full_epochs: int) -> list[tuple[int, float]]:
    """List (epochs, multiply-adds) of the teachers that the tool trains itself.

    Args:
        teachers: options and multiply-adds of each.
        full_epochs: of those whose options do not say.
    """
    return [(t.epochs or full_epochs, macs) for t, macs in teachers if not t.is_given]


def student_friendly_cost(
    epochs: int, networks: Sequence[float], student_epochs: int, students: Sequence[float], work: TrainingWork
) -> float:
    """Count the multiply-adds of training a teacher together with cuts of itself, and the fixed part of each step.

    Args:
        epochs: of the training.
        networks: multiply-adds of those trained in every step, the teacher among them.
        student_epochs: that each student of the comparison is trained for, from either teacher.
        students: multiply-adds of each.
        work: counts what a step takes however small its network is.
    """
    return epochs * sum(map(work.of_macs, networks)) + 2 * student_epochs * sum(map(work.of_macs, students))


def supernet_cost(
    epochs: int,
    networks_per_step: int,
    ends: Sequence[Architecture],
    members: Sequence[Architecture],
    builder: CountsWork,
) -> float:
    """Count the multiply-adds of training an elastic network.

    Args:
        epochs: of its training.
        networks_per_step: sub-networks trained in every step, its ends among them.
        ends: the smallest and the largest network.
        members: sub-networks of it; those drawn in each step are taken to be like these.
        builder: counts multiply-adds.
    """
    drawn = (networks_per_step - len(ends)) * fmean(map(builder.macs, members))
    return epochs * (sum(map(builder.macs, ends)) + drawn)
