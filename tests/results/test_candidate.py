"""A candidate is its JSON: equal candidates have equal fingerprints, whatever the order of their choices."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.errors import InputError
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.teaching import PROGRESSIONS, Teaching

NAMES = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda name: name != "space")
ARCHITECTURES = st.builds(
    Architecture,
    st.sampled_from(["resnet", "mobilenet"]),
    st.dictionaries(NAMES, st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)),
)
TEACHINGS = st.builds(Teaching, st.booleans(), st.none() | st.integers(1, 9), st.sampled_from(PROGRESSIONS))
RECIPES = st.builds(
    Recipe, st.sampled_from(["dkd", "a+b"]), st.dictionaries(NAMES, st.floats(0.1, 10)), teaching=TEACHINGS
)
CANDIDATES = st.builds(Candidate, ARCHITECTURES, st.lists(ARCHITECTURES, max_size=2).map(tuple), RECIPES)


@given(CANDIDATES)
def test_json_round_trip(candidate: Candidate) -> None:
    again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
    assert again.fingerprint() == candidate.fingerprint()
    assert again.student == candidate.student
    assert again.recipe.teaching == candidate.recipe.teaching
    assert again.assistants == candidate.assistants
    assert hash(again.student) == hash(candidate.student)


@given(CANDIDATES, CANDIDATES)
def test_equal_fingerprints_are_equal_candidates(a: Candidate, b: Candidate) -> None:
    assert (a.fingerprint() == b.fingerprint()) == (a.to_json() == b.to_json())


def test_the_order_of_choices_does_not_matter_and_that_of_assistants_does() -> None:
    wide, deep = Architecture("resnet", {"width": 8, "depth": 2}), Architecture("resnet", {"depth": 2, "width": 8})
    assert wide == deep
    assert len({wide, deep}) == 1
    small = Architecture("resnet", {"width": 4, "depth": 2})
    one = Candidate(small, (wide, small), Recipe("dkd"))
    assert one.fingerprint() != Candidate(small, (small, wide), Recipe("dkd")).fingerprint()
    assert one.fingerprint() != Candidate(small, (wide, small), Recipe("dkd", {"strength": 1.0})).fingerprint()


def test_the_fingerprint_never_changes() -> None:
    """Studies and stores of earlier runs are read by it."""
    candidate = Candidate(Architecture("resnet", {"width": 8}), (), Recipe("soft_targets", {"temperature": 4.0}))
    assert candidate.to_json() == {
        "student": {"space": "resnet", "width": 8},
        "assistants": [],
        "method": "soft_targets",
        "params": {"temperature": 4.0},
        "precision": "fp32",
    }
    assert candidate.fingerprint() == "e0ac3549e800ac46a998f5520fffd19e74ec7f15d8dab66b55632a9c0c3fc933"
    assert candidate.id == candidate.fingerprint()[:12]


def test_an_architecture_equals_nothing_else() -> None:
    assert Architecture("resnet") != {"space": "resnet"}
    assert Architecture("resnet") != Architecture("mobilenet")


def test_another_chain_policy_makes_another_candidate_and_may_deploy_a_sum() -> None:
    student, assistant = Architecture("resnet", {"width": 8}), Architecture("resnet", {"width": 16})
    usual, dense, residual = (
        Candidate(student, (assistant,), Recipe("soft_targets"), policy=policy)
        for policy in ("sequential", "dense", "residual")
    )
    assert "policy" not in usual.to_json()
    assert len({c.id for c in (usual, dense, residual)}) == 3
    assert all(Candidate.from_json(c.to_json()) == c for c in (usual, dense, residual))
    deployed = [load_policy(c.policy).deployed(c) for c in (usual, dense, residual)]
    assert deployed == [(student,), (student,), (student, assistant)]


def test_another_teaching_makes_another_candidate_of_another_kind() -> None:
    student = Architecture("resnet", {"width": 8})
    ways = [Teaching(), Teaching(standardize=True), Teaching(checkpoint=1), Teaching(checkpoint=2)]
    candidates = [Candidate(student, (), Recipe("dkd", {"strength": 1.0}, teaching=way)) for way in ways]
    assert len({c.id for c in candidates}) == len({c.kind for c in candidates}) == 4
    assert "teaching" not in candidates[0].to_json()
    assert candidates[2].to_json()["teaching"] == {"checkpoint": 1}
    assert [way.describe() for way in ways] == [
        "",
        "standardised logits",
        "checkpoint 1 of the teacher",
        "checkpoint 2 of the teacher",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"standardise": True}, "teaching.standardise: unknown; allowed: standardize, checkpoint, progression"),
        ({"standardize": 1}, "teaching.standardize must be true or false, got 1"),
        ({"checkpoint": 0}, "teaching.checkpoint must be a whole number >= 1, got 0"),
        ({"checkpoint": True}, "teaching.checkpoint must be a whole number >= 1, got True"),
        ({"progression": "x"}, "teaching.progression must be one of none, checkpoints, stages, got 'x'"),
    ],
)
def test_a_teaching_that_cannot_be_is_refused(value: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        Teaching.from_json(value)
