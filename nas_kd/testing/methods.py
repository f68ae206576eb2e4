"""The contract of a distillation method."""

from nas_kd.methods.base import Method
from nas_kd.testing import method_rules as calls
from nas_kd.testing import training_rules as trainings
from nas_kd.testing.generators import one_thread
from nas_kd.testing.method_case import MakeMethod, MethodCase
from nas_kd.testing.rules import check_rules
from nas_kd.testing.toy_training import PAIRS

DECLARED = (
    calls.declares_itself,
    calls.takes_both_parameters,
    calls.shows_every_sample_once,
    calls.learns_from_the_batch,
)
ON_EACH_PAIR = (
    calls.attaches_without_trace,
    calls.returns_finite_scalars,
    calls.changes_no_input,
    calls.trains_to_the_end,
    calls.declares_its_terms,
    calls.teaches_the_student,
    calls.leaves_teachers_alone,
    calls.leaves_generators_alone,
    calls.keeps_its_state,
    calls.trains_all_parameters,
    trainings.repeats_itself,
    trainings.travels_in_checkpoints,
    trainings.has_peers_of_its_own,
    trainings.adds_nothing_to_the_file,
    trainings.leaves_no_hooks,
    trainings.survives_bf16,
)
ON_ONE_PAIR = (
    trainings.follows_its_seed,
    trainings.obeys_its_parameters,
    trainings.survives_small_batches,
    trainings.survives_equal_samples,
    trainings.survives_equal_outputs,
    trainings.works_on_tokens,
    trainings.works_across_families,
    calls.reads_no_samples,
)
RULES = (*DECLARED, *ON_EACH_PAIR, *ON_ONE_PAIR)


def check_method(method: MakeMethod) -> None:
    """Check a distillation method against everything that the engine, the search and the export expect of it.

    About twenty trainings of a few steps each on two pairs of tiny networks, on a convolutional network and a
    transformer in both roles, and on networks without feature maps; a second or two on one core for a method of logits.

    Args:
        method: the class; or, for one whose constructor takes more, a function of temperature (None: the default) and
            strength that returns a new method.

    Raises:
        BrokenRule: the method breaks a rule; the message names the rule and what was seen.
        TypeError: `method` is neither a class nor a function.

    Examples:
        >>> from nas_kd.methods.response.soft_targets import SoftTargets
        >>> check_method(SoftTargets)
    """
    if isinstance(method, Method) or not callable(method):
        raise TypeError(f"check_method takes the method's class, or a function that makes one; got {method!r}")
    first, second = (MethodCase(method, pair) for pair in PAIRS)
    with one_thread():
        check_rules(f"method {_name(first)!r}", RULES, first)
        check_rules(f"method {_name(first)!r}", ON_EACH_PAIR, second)


def _name(case: MethodCase) -> str:
    try:
        return str(case.method.name)
    except Exception:  # the first rule says why there is none
        return str(getattr(case.make, "name", getattr(case.make, "__name__", "unknown")))
