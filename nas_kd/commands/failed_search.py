"""How a search ends that has no candidate within the budget, or none that could be trained."""

from typing import NoReturn

from nas_kd.commands.load_run import read_run
from nas_kd.commands.write_winner import write_results
from nas_kd.context.run_context import RunContext
from nas_kd.errors import BudgetError, TrialError
from nas_kd.nas.study import RunStudy


def require_trainable(study: RunStudy) -> None:
    """Check that candidates failed for no other reason than the budget.

    Raises:
        TrialError: none could be trained.
    """
    failed = [t for t in study.records if t.status == "failed"]
    infeasible = any(t.status == "infeasible" for t in study.records)
    if failed and (not infeasible or any(t.within_budget for t in failed)):
        raise TrialError(f"none of {len(failed)} candidates could be trained; the last one: {failed[-1].reason}")


def give_up(context: RunContext, study: RunStudy, closest_candidates: str) -> NoReturn:
    """End the run, with its report written.

    Args:
        context: of the run.
        study: its record.
        closest_candidates: what came nearest to the budget, in words.

    Raises:
        BudgetError: always.
    """
    message = f"no candidate can meet the budget; closest: {closest_candidates}"
    study.save("state", "unreachable")
    study.save("message", message)
    write_results(context.folder, read_run(context.folder))
    raise BudgetError(message)
