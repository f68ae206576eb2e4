"""Scores of vectors beside scikit-learn's, resamples of identities, thresholds, and what intervals cover."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors

from nas_kd.scores import embeddings
from nas_kd.scores.base import load_score
from nas_kd.scores.embeddings import Embeddings, verification_threshold

NAMES = ("recall_at_1", "tar_at_far", "tar_at_far_1e3")
FAR = {"tar_at_far": 0.01, "tar_at_far_1e3": 0.001}


def people(
    seed: int, n_groups: int = 20, n: int = 10, noise: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors around one centre an identity, some of which are wider than others."""
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_groups), n)
    wide = noise * generator.uniform(0.6, 1.4, size=(n_groups, 1))
    x = generator.normal(size=(n_groups, 16))[y] + wide[y] * generator.normal(size=(len(y), 16))
    return x.astype(np.float32), y


def cosines(x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    first, second = np.triu_indices(len(x), 1)
    return y[first] == y[second], (unit @ unit.T)[first, second]


def test_recall_is_that_of_the_nearest_neighbour() -> None:
    x, y = people(0)
    x, y = np.concatenate([x, x[:3] + 0.5]), np.concatenate([y, [100, 101, 102]])  # three identities with one sample
    _, found = NearestNeighbors(n_neighbors=2, metric="cosine").fit(x).kneighbors(x)
    right = y[found[:, 1]] == y
    assert load_score("recall_at_1").value(Embeddings.of(x, y)) == pytest.approx(right[:-3].mean())
    assert 0.5 < right[:-3].mean() < 0.95


@pytest.mark.parametrize("name", list(FAR))
def test_accept_rates_are_those_of_the_roc_curve(name: str) -> None:
    for seed in range(3):
        x, y = people(seed, noise=0.8)
        same, similar = cosines(x, y)
        false, true, _ = roc_curve(same, similar, drop_intermediate=False)
        expected = true[false <= FAR[name]].max()
        assert load_score(name).value(Embeddings.of(x, y)) == pytest.approx(expected, abs=1e-9)
        assert 0.1 < expected < 1


def test_an_identity_that_counts_twice_is_one_that_is_there_twice() -> None:
    """All but pairs between the two, which are of neither kind."""
    x, y = people(1, n_groups=6)
    times = np.array([[2.0, 1.0, 0.0, 1.0, 3.0, 1.0]])
    same, similar = cosines(x, y)
    first, second = np.triu_indices(len(x), 1)
    weight = np.where(same, times[0][y[first]], times[0][y[first]] * times[0][y[second]])
    false, true, _ = roc_curve(same, similar, sample_weight=weight, drop_intermediate=False)
    score = load_score("tar_at_far")
    found = score.weighted(Embeddings.of(x, y), times)  # type: ignore[attr-defined]
    assert found[0] == pytest.approx(true[false <= 0.01].max(), abs=1e-9)
    recall, evidence = load_score("recall_at_1"), Embeddings.of(x, y)
    hits = evidence.hits / 10
    expected = (times[0] * hits).sum() / times.sum()
    assert recall.weighted(evidence, times)[0] == pytest.approx(expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["recall_at_1", "tar_at_far"])
@pytest.mark.parametrize(("n_groups", "noise"), [(10, 1.0), (10, 0.3), (30, 0.7)])
def test_intervals_cover_the_truth(name: str, n_groups: int, noise: float) -> None:
    """Of splits drawn from a known population, about 95 % have its score in their interval."""
    score, splits = load_score(name), 40
    found = [score.of(Embeddings.of(*people(seed, n_groups, 8, noise))) for seed in range(splits)]
    more = [score.value(Embeddings.of(*people(1000 + seed, n_groups, 8, noise))) for seed in range(150)]
    truth = float(np.mean(more))
    assert sum(one.low <= truth <= one.high for one in found) >= 0.87 * splits
    widths = np.array([one.high - one.low for one in found])
    assert widths.mean() < 8 * max(np.std(more), 1 / (8 * n_groups))  # an interval that says nothing would cover, too


def test_gains_are_paired_by_identity() -> None:
    """Of two networks that fail on the same identities, the difference is known better than either."""
    x, y = people(3, noise=1.0)
    worse = x + 0.3 * np.random.default_rng(4).normal(size=x.shape).astype(np.float32)
    score = load_score("recall_at_1")
    a, b = (Embeddings.of(v, y) for v in (x, worse))
    gain, one, other = score.gain([a, a], [b, b]), score.of(a), score.of(b)
    assert gain.mean == pytest.approx(one.mean - other.mean)
    assert gain.high - gain.low < 0.75 * np.hypot(one.high - one.low, other.high - other.low)


def test_guessing_is_what_vectors_without_sense_get() -> None:
    generator = np.random.default_rng(5)
    y = np.repeat(np.arange(12), [2, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18])
    for name in NAMES[:2]:
        score = load_score(name)
        found = [score.value(Embeddings.of(generator.normal(size=(100, 8)).astype(np.float32), y)) for _ in range(60)]
        assert np.mean(found) == pytest.approx(score.guessing(y, y, 8), abs=0.02)


def test_one_vector_for_all_is_no_answer() -> None:
    _, y = people(0)
    for outputs in (np.ones((len(y), 4), dtype=np.float32), np.zeros((len(y), 4), dtype=np.float32)):
        for name in NAMES:
            assert load_score(name).value(Embeddings.of(outputs, y)) == 0


def test_the_threshold_accepts_as_many_strangers_as_it_says() -> None:
    x, y = people(6, n_groups=30, noise=0.7)
    same, similar = cosines(x, y)
    evidence = Embeddings.of(x, y)
    threshold = verification_threshold(evidence, 0.01)
    strangers = (similar[~same] >= threshold).mean()
    assert 0.008 < strangers <= 0.01
    assert (similar[same] >= threshold).mean() == pytest.approx(load_score("tar_at_far").value(evidence))


def test_of_many_samples_some_of_every_identity_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = people(7, n_groups=40, n=20, noise=0.7)
    whole = load_score("tar_at_far").value(Embeddings.of(x, y))
    monkeypatch.setattr(embeddings, "MOST", 300)
    fewer = Embeddings.of(x, y)
    assert set(fewer.pairs.same_of.tolist()) == set(range(40))
    assert load_score("tar_at_far").value(fewer) == pytest.approx(whole, abs=0.1)
