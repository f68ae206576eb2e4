"""Other programs put trials and studies into a run's file: what fits is used, nothing stops the run."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from nas_kd.commands.load_run import read_run
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas.propose import propose
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.results.trial_record import TrialRecord
from tests.nas.searching import Searching
from tests.small_runs import few_startup_trials, small_config


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


@pytest.fixture
def search(builder: NetworkBuilder, tmp_path: Path) -> Searching:
    """A search that has told three trials."""
    search = Searching(tmp_path / "run", builder, "random")
    for _ in range(3):
        search.study.tell(search.propose())
    return search


@pytest.fixture
def search_at_its_start(builder: NetworkBuilder, tmp_path: Path) -> Searching:
    """A search that has proposed nothing yet."""
    return Searching(tmp_path / "run", builder, "random")


def plain_optuna(search: Searching) -> optuna.Study:
    """The study as another program opens it."""
    return optuna.load_study(study_name="test", storage=f"sqlite:///{search.folder.study}")


def stored_params(search: Searching, number: int = 0) -> dict[str, Any]:
    return dict(plain_optuna(search).trials[number].params)


def changed(search: Searching, **params: Any) -> dict[str, Any]:
    """Parameters of a candidate that was not proposed yet, with some replaced."""
    return stored_params(search) | {"student.width_1": 16, "student.width_2": 44, "student.width_3": 92} | params


def go_on(search: Searching) -> TrialRecord:
    search.reopen()
    return search.study.tell(search.propose())


def test_enqueued_parameters_are_proposed_next(search: Searching) -> None:
    wanted = changed(search)
    plain_optuna(search).enqueue_trial(wanted)
    record = go_on(search)
    assert record.number == 3
    assert record.candidate.student.choices["width_2"] == 44
    assert search.notes == ["trials that another program put into the study: 1 proposed"]
    after = search.study.tell(search.propose())
    assert after.number == 4
    search.study.close()
    stored = plain_optuna(search).trials
    assert stored[3].params == wanted
    assert [t.number for t in read_run(search.folder).trials] == [0, 1, 2, 3, 4]


def test_what_is_not_given_is_drawn(search: Searching) -> None:
    plain_optuna(search).enqueue_trial({"method": "none"})
    plain_optuna(search).enqueue_trial({})
    first, second = go_on(search), search.study.tell(search.propose())
    assert (first.number, second.number) == (3, 4)
    assert first.candidate.recipe.method == "none"
    search.study.close()


def test_the_rest_of_the_run_is_that_of_an_undisturbed_one(builder: NetworkBuilder, tmp_path: Path) -> None:
    """Proposals are numbered on; those that come after foreign trials are drawn for their own numbers."""
    search = Searching(tmp_path / "run", builder, "random")
    search.study.save("initial_trials", search.proposer.direct_trials(load_space("resnet").size_ladder(5)[1:4]))
    first = search.study.tell(search.propose())
    plain_optuna(search).enqueue_trial(changed(search, **{"student.depth_1": 2}))
    adopted = go_on(search)
    third = search.study.tell(search.propose())
    sizes = load_space("resnet").size_ladder(5)
    assert (first.candidate.student, third.candidate.student) == (sizes[1], sizes[2])
    assert [search.study.initial_place(n) for n in range(3)] == [0, None, 1]
    assert not search.study.is_new
    search.reopen()
    assert [search.study.initial_place(n) for n in range(3)] == [0, None, 1]
    assert search.study.records == [first, adopted, third]
    search.study.close()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"student.width": 8}, "has 'student.width', which this search does not have"),
        ({"temperature": 99.0}, "has temperature = 99.0, which is outside of this search's values"),
        ({"method": "fitnet"}, "has method = 'fitnet', which is outside of this search's values"),
        ({"student.depth_1": "deep"}, "has student.depth_1 = 'deep', which is outside of this search's values"),
        ({"strength": float("nan")}, "has strength = nan, which is outside of this search's values"),
    ],
)
def test_what_does_not_fit_is_ignored_with_a_note(search: Searching, params: dict[str, Any], reason: str) -> None:
    plain_optuna(search).enqueue_trial(params)
    record = go_on(search)
    assert record.number == 4
    assert search.notes == [f"trials that another program put into the study: 1 ignored (trial 3 {reason})"]
    search.study.close()
    assert [t.number for t in read_run(search.folder).trials] == [0, 1, 2, 4]


@pytest.mark.parametrize("enqueued", [False, True])
@pytest.mark.parametrize(
    ("name", "distribution", "says"),
    [
        ("method", CategoricalDistribution([2.0, 4.0]), "choices 2.0, 4.0, this search with choices soft_targets, "),
        ("temperature", FloatDistribution(1, 8), "numbers, this search with numbers on a logarithmic scale"),
    ],
)
def test_other_choices_in_the_database_before_the_first_trial_are_refused(
    search_at_its_start: Searching, name: str, distribution: BaseDistribution, says: str, enqueued: bool
) -> None:
    """Optuna's database takes a parameter's first choices for all trials, so that none of this run's can be stored."""
    search, study = search_at_its_start, plain_optuna(search_at_its_start)
    if enqueued:
        study.enqueue_trial({})
    study.add_trial(create_trial(values=[0.9, 4000, 0.1], params={name: 2.0}, distributions={name: distribution}))
    search.reopen()
    trial = f"trial {int(enqueued)} of another program has '{name}' with {says}"
    with pytest.raises(InputError, match=rf"study\.db: {re.escape(trial)}.*; begin anew in another --run-dir$"):
        search.propose()
    search.study.close()


def test_other_choices_that_come_between_opening_and_the_first_trial_are_refused(
    search_at_its_start: Searching,
) -> None:
    search = search_at_its_start
    plain_optuna(search).ask({"method": CategoricalDistribution(["dkd"])})
    with pytest.raises(InputError, match="trial 0 of another program has 'method' with choices dkd"):
        search.propose()
    search.study.close()


def test_trials_left_under_way_elsewhere(search: Searching) -> None:
    plain_optuna(search).ask()
    study = plain_optuna(search)
    distributions = study.trials[0].distributions
    study.add_trial(create_trial(state=TrialState.RUNNING, params=changed(search), distributions=distributions))
    record = go_on(search)
    assert (record.number, record.candidate.student.choices["width_2"]) == (4, 44)
    assert search.notes[0].startswith("trials that another program put into the study: 1 proposed, 1 ignored (trial 3")
    search.study.close()


def test_finished_trials_inform_the_sampler(builder: NetworkBuilder, tmp_path: Path) -> None:
    search = Searching(tmp_path / "run", builder, "tpe")
    search.study.tell(search.propose())
    study = plain_optuna(search)
    params, distributions = changed(search), study.trials[0].distributions
    for values in ([0.9, 4000, 0.1], [0.9, 80_000, 0.1], [2.0, 4000, 0.1]):
        study.add_trial(create_trial(values=values, params=params, distributions=distributions))
    other = {"x": FloatDistribution(0, 1), "method": CategoricalDistribution(["soft_targets", "similarity", "none"])}
    study.add_trial(create_trial(values=[1, 2, 3], params={"x": 0.5, "method": "none"}, distributions=other))
    study.add_trial(create_trial(state=TrialState.PRUNED, params=params, distributions=distributions))
    with few_startup_trials(2):
        record = go_on(search)
    assert record.number == 6
    shown = search.study._memory.get_trials(states=(TrialState.COMPLETE,))
    assert [(t.number, t.values, t.constraints["budget"] <= 0) for t in shown if t.number in (1, 2)] == [
        (1, [0.9, 4000, 0.1], True),
        (2, [0.9, 80_000, 0.1], False),
    ]
    assert search.notes[0].startswith("trials that another program put into the study: 2 shown to the sampler, 3 ign")
    search.study.close()
    assert [t.number for t in read_run(search.folder).trials] == [0, 6]


def test_trials_of_another_run_do_not_count_as_this_runs(builder: NetworkBuilder, tmp_path: Path) -> None:
    earlier = Searching(tmp_path / "earlier", builder, "random", chain={"max_assistants": 0})
    for _ in range(3):
        earlier.study.tell(earlier.propose())
    earlier.study.close()
    search = Searching(tmp_path / "run", builder, "random", chain={"max_assistants": 0})
    plain_optuna(search).add_trials(plain_optuna(earlier).trials)
    search.reopen()
    assert search.study.is_new
    assert search.study.records == []
    assert search.study.tell(search.propose()).rungs[0].seconds == 1.0
    search.study.close()


def test_trials_that_come_while_the_run_works(search: Searching) -> None:
    study = plain_optuna(search)
    study.enqueue_trial(changed(search))
    study.enqueue_trial({"nonsense": 1})
    first = search.study.tell(search.propose())  # drawn before they were seen
    second = search.study.tell(search.propose())
    assert (first.number, second.number) == (5, 3)
    assert second.candidate.student.choices["width_2"] == 44
    search.reopen()
    assert {r.number for r in search.study.records} == {0, 1, 2, 3, 5}
    search.study.close()


def test_killed_while_a_trial_is_taken_over(search: Searching) -> None:
    plain_optuna(search).enqueue_trial(changed(search))
    search.reopen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.study._storage, "set_trial_user_attr", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            search.propose()
    record = go_on(search)
    assert (record.number, record.candidate.student.choices["width_2"]) == (3, 44)
    search.study.close()


def test_a_trial_that_another_program_ends(search: Searching) -> None:
    record = search.propose()
    plain_optuna(search).tell(record.number, state=TrialState.FAIL)
    search.study.tell(record)
    search.reopen()
    assert search.study.find(record.id) is not None
    assert search.study.interrupted == []
    search.study.close()
    assert [t.number for t in read_run(search.folder).trials] == [0, 1, 2, 3]


def test_enqueued_twins_are_duplicates(search: Searching) -> None:
    plain_optuna(search).enqueue_trial(stored_params(search))
    record = go_on(search)
    assert record.number == 4
    twin = search.study.records[3]
    assert (twin.number, twin.status, twin.duplicate_of) == (3, "duplicate", 0)
    search.study.close()


def test_other_studies_new_attributes_and_another_name_do_no_harm(search: Searching) -> None:
    storage = f"sqlite:///{search.folder.study}"
    with optuna_silenced():
        optuna.create_study(study_name="a", storage=storage).ask()
    study = plain_optuna(search)
    study.set_user_attr("dashboard:note", {"text": "good"})
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, "mine", 1)
    with sqlite3.connect(search.folder.study) as connection:
        connection.execute("update studies set study_name = 'renamed' where study_name = 'test'")
    connection.close()
    before = search.study.records
    search.reopen()
    assert search.study.records == before
    assert search.study.tell(search.propose()).number == 3
    search.study.close()
    run = read_run(search.folder)
    assert (run.name, len(run.trials)) == ("renamed", 4)
    assert search.notes == []


def test_a_file_without_the_study_is_refused(search: Searching) -> None:
    search.study.close()
    optuna.delete_study(study_name="test", storage=f"sqlite:///{search.folder.study}")
    for again in (search.reopen, lambda: read_run(search.folder)):
        with pytest.raises(InputError, match="holds no study"):
            again()


def test_proposals_end_though_all_waiting_trials_repeat(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_kd.nas.propose.MAX_DUPLICATES_IN_A_ROW", 3)
    for _ in range(3):
        plain_optuna(search).enqueue_trial(stored_params(search))
    search.reopen()
    assert propose(search.study, search.proposer, search.config) is None
    search.study.close()
