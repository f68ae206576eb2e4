"""Average precision of boxes: by hand, beside pycocotools and faster-coco-eval where they are, and resampled."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_kd.scores.base import load_score
from nas_kd.scores.box_matches import FoundBoxes
from nas_kd.scores.map50_95 import precision_by_class

Found = list[NDArray[np.float32]]


def scene(seed: int, pictures: int = 30, n_classes: int = 3, spread: float = 3.0) -> FoundBoxes:
    """Draw true boxes, and found ones that are moved, missing, of another class, double or made up."""
    generator = np.random.default_rng(seed)
    found: Found = []
    true = np.full((pictures, 7, 5), -1, dtype=np.float32)
    for picture in range(pictures):
        n = generator.integers(0, 8)
        low = generator.uniform(0, 60, (n, 2))
        true[picture, :n, 0] = generator.integers(0, n_classes, n)
        true[picture, :n, 1:] = np.concatenate([low, low + generator.uniform(5, 40, (n, 2))], axis=1)
        told = true[picture, generator.integers(0, max(1, n), 9)].copy()
        told[:, 1:] += generator.normal(0, spread, (9, 4))
        wrong = generator.random(9) < 0.2
        told[wrong, 0] = generator.integers(0, n_classes, wrong.sum())
        told = told[(told[:, 0] >= 0) & (told[:, 3:] > told[:, 1:3]).all(axis=1)]
        score = np.round(generator.uniform(0, 1, (len(told), 1)), 6)
        rows = np.concatenate([told[:, :1], score, told[:, 1:]], axis=1).astype(np.float32)
        found.append(rows[np.argsort(-rows[:, 1], kind="stable")])
    return FoundBoxes(found, true, n_classes)


def test_average_precision_by_hand() -> None:
    """Two true boxes; found are a right one, a wrong one, and the second one with an overlap of 0.6."""
    true = np.array([[[0, 0, 0, 10, 10], [0, 20, 20, 30, 30]]], dtype=np.float32)
    found = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 50, 50, 60, 60], [0, 0.7, 20, 20, 30, 26]], dtype=np.float32)
    evidence = FoundBoxes([found], true, 2)
    at_half = (51 * 1 + 50 * 2 / 3) / 101  # recalls 0 to 0.5 at precision 1, the others at 2/3
    assert load_score("map50").value(evidence) == pytest.approx(at_half)
    others = 51 / 101  # where an overlap of 0.6 is too little
    assert load_score("map50_95").value(evidence) == pytest.approx((3 * at_half + 7 * others) / 10, abs=1e-6)
    known, unknown = precision_by_class(evidence).values
    assert unknown is None  # the split has no box of the second class
    assert known is not None
    assert known.mean == pytest.approx(load_score("map50_95").value(evidence))
    assert known.low <= known.mean <= known.high


def test_a_true_box_is_found_once() -> None:
    true = np.array([[[0, 0, 0, 10, 10]]], dtype=np.float32)
    double = np.array([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 0, 0, 10, 10]], dtype=np.float32)
    score: Any = load_score("map50")
    (matches,) = FoundBoxes([double], true, 1).matches
    assert matches.right[0].tolist() == [True, False]
    assert score.value(FoundBoxes([double], true, 1)) == 1
    assert score.value(FoundBoxes([double[:0]], true, 1)) == 0
    assert score.value(FoundBoxes([double], np.full((1, 1, 5), -1, dtype=np.float32), 1)) == 0  # nothing is there


def _coco(evidence: FoundBoxes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results in COCO's form."""
    truth: dict[str, Any] = {
        "images": [{"id": i + 1, "width": 200, "height": 200} for i in range(evidence.samples)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(evidence.n_classes)],
        "annotations": [],
        "info": {},
    }
    results = []
    for picture, (found, true) in enumerate(zip(evidence.found, evidence.true.astype(float), strict=True)):
        for label, x1, y1, x2, y2 in true[true[:, 0] >= 0].tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            of = {"id": len(truth["annotations"]) + 1, "image_id": picture + 1, "category_id": int(label) + 1}
            truth["annotations"].append(of | box)
        for label, score, x1, y1, x2, y2 in found.astype(float).tolist():
            of = {"image_id": picture + 1, "category_id": int(label) + 1, "score": score}
            results.append(of | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return truth, results


def _pycocotools(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float]:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    given = coco.COCO()
    given.dataset = truth
    given.createIndex()
    judged = cocoeval.COCOeval(given, given.loadRes(results), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged.stats[0], judged.stats[1]


def _faster_coco_eval(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float]:
    faster = pytest.importorskip("faster_coco_eval")
    given = faster.COCO(truth)
    judged = faster.COCOeval_faster(given, given.loadRes(results), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged.stats[0], judged.stats[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("independent", [_pycocotools, _faster_coco_eval])
def test_the_score_is_that_of_coco_s_tools(independent: Any, seed: int) -> None:
    evidence = scene(seed, spread=1.0 + seed)
    expected = independent(*_coco(evidence))
    assert 0.02 < expected[0] < expected[1] < 0.98
    assert load_score("map50_95").value(evidence) == pytest.approx(expected[0], abs=1e-6)
    assert load_score("map50").value(evidence) == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize("name", ["map50", "map50_95"])
def test_resamples_are_weights(name: str) -> None:
    """A picture that counts twice is a picture that is there twice."""
    evidence, score = scene(5), load_score(name)
    times = np.random.default_rng(0).integers(0, 3, evidence.samples)
    again = FoundBoxes(
        [found for found, n in zip(evidence.found, times, strict=True) for _ in range(n)],
        evidence.true.repeat(times, axis=0),
        evidence.n_classes,
    )
    weighted: Any = score
    found = weighted.weighted(evidence, np.stack([times, np.ones_like(times)]).astype(np.float64))
    assert found.tolist() == pytest.approx([score.value(again), score.value(evidence)])


def test_intervals_cover_the_truth() -> None:
    """Of splits drawn from a known population, about 95 % have its score in their interval."""
    population, score = scene(6, pictures=3000), load_score("map50")
    truth, generator, inside, splits = score.value(population), np.random.default_rng(7), 0, 40
    for _ in range(splits):
        rows = generator.choice(population.samples, 60, replace=False)
        drawn = FoundBoxes([population.found[row] for row in rows], population.true[rows], population.n_classes)
        found = score.of(drawn)
        inside += found.low <= truth <= found.high
    assert inside >= 0.85 * splits


def test_the_floor_has_the_largest_f1() -> None:
    """Two right boxes above a wrong one, and a third right one below that: beside every possible floor."""
    true = np.full((2, 2, 5), -1.0, dtype=np.float32)
    true[0] = [[0, 0, 0, 10, 10], [1, 20, 20, 30, 30]]
    true[1, 0] = [0, 5, 5, 15, 15]
    first = np.array([[0, 0.9, 0, 0, 10, 10], [1, 0.3, 20, 20, 30, 31], [0, 0.1, 40, 40, 50, 50]], dtype=np.float32)
    second = np.array([[0, 0.6, 5, 5, 15, 15], [1, 0.5, 0, 0, 9, 9]], dtype=np.float32)
    evidence = FoundBoxes([first, second], true, 2)
    floor, f1 = evidence.best_floor()
    assert (floor, f1) == pytest.approx((0.3, 2 * 3 / (4 + 3)))
    counts = {0.9: (1, 1), 0.6: (2, 2), 0.5: (2, 3), 0.3: (3, 4), 0.1: (3, 5)}  # right ones, and all
    assert f1 == pytest.approx(max(2 * right / (n + 3) for right, n in counts.values()))
    assert FoundBoxes([first[:0], second[:0]], true, 2).best_floor() == (1.0, 0.0)
    assert FoundBoxes([first[2:], second[1:]], true, 2).best_floor() == (1.0, 0.0)
