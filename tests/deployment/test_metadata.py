"""What an exported file says of itself: little, and as many bytes whatever became of its training."""

import json
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.config.card_options import CardOptions
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.deployment.card import student_facts
from nas_kd.deployment.facts import StudentFacts
from nas_kd.deployment.metadata import metadata, metadata_size, with_metadata
from nas_kd.results.calibration import BeforeAfter, CalibrationRecord
from tests import records
from tests.deployment.test_model_card import dataset, facts

TEXTS = st.none() | st.text(min_size=1) | st.text(min_size=30, max_size=36)
SHARES = st.integers(0, 10**6).flatmap(lambda right: st.integers(max(1, right), 10**6).map(lambda n: right / n))
NUMBERS = st.floats(0, 1e300)


def student(
    *,
    licences: tuple[str | None, str | None],
    version: str,
    shares: tuple[float, float],
    parity: float,
    temperature: float,
    errors: tuple[float, float] | None,
) -> StudentFacts:
    """A student with these figures and texts, of one data set."""
    ece = {} if errors is None else {"test": BeforeAfter(before=errors[0], after=errors[1])}
    return facts(
        card=CardOptions(license=licences[0], dataset_license=licences[1]),
        versions=dict.fromkeys(("nas-kd", "torch", "onnxruntime"), version),
        test=records.accuracy(0.5).model_copy(update={"mean": shares[0]}),
        agreement=shares[1],
        parity=parity,
        calibration=CalibrationRecord(temperature=temperature, ece=ece),
    )


STUDENTS = st.builds(
    student,
    licences=st.tuples(TEXTS, TEXTS),
    version=st.text(),
    shares=st.tuples(SHARES, SHARES),
    parity=NUMBERS,
    temperature=st.floats(0.05, 20),
    errors=st.tuples(NUMBERS, NUMBERS) | st.none(),
)


@given(STUDENTS)
def test_the_size_depends_on_the_data_alone(found: StudentFacts) -> None:
    assert len(with_metadata(b"", found)) == metadata_size(found.data) == metadata_size(dataset())


@given(st.text())
def test_moved_data_may_have_another_name(name: str) -> None:
    assert len(with_metadata(b"", facts(data=dataset(name=name)))) == metadata_size(dataset())


@pytest.mark.parametrize("size", [126, 127, 128, 129, 16_383, 16_384])
def test_lengths_of_any_number_of_bytes_are_counted(size: int) -> None:
    data = dataset(classes=("a" * size, "b"))
    content = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString()
    written = with_metadata(content, facts(data=data))
    assert len(written) == len(content) + metadata_size(data)
    stated = {p.key: p.value for p in onnx.load_from_string(written).metadata_props}
    assert json.loads(stated["nas_kd.classes"]) == list(data.classes)


def test_names_in_any_script_take_their_bytes_and_are_read_back() -> None:
    data = dataset(classes=("日本語", "Ελλάδα", "half of a pair: \ud800"), name="日本語データ")
    content = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString()
    written = with_metadata(content, facts(data=data))
    assert len(written) == len(content) + metadata_size(data)
    stated = {p.key: p.value for p in onnx.load_from_string(written).metadata_props}
    assert json.loads(stated["nas_kd.classes"]) == list(data.classes)
    assert json.loads(stated["nas_kd.dataset"])["name"] == "日本語データ"
    one, other = (metadata_size(dataset(classes=(name, "b"))) for name in ("日", "日日"))
    assert other - one == 3


def test_a_file_states_what_it_takes_to_run_it_and_where_it_comes_from() -> None:
    data = dataset(
        classes=tuple("0123456789"),
        input_shape=(1, 28, 28),
        picture_steps=PictureSteps((28, 28), "crop", "grey").to_json(),
        mean=(33.318421449829934,),
        std=(78.56748998339798,),
    )
    versions = {"nas-kd": "0.2.0", "torch": "2.9.1+cpu", "onnxruntime": "1.23.2", "numpy": "2.3.0"}
    card = CardOptions(license="apache-2.0", dataset_license="x" * 40, author="A", description="long")
    texts = metadata(student_facts(facts(data=data, versions=versions, card=card)))
    stated: dict[str, Any] = {k: v if k == "nas_kd.preprocessing" else json.loads(v) for k, v in texts.items()}
    assert stated == {
        "nas_kd.candidate": {"id": records.CANDIDATE.id},
        "nas_kd.classes": list("0123456789"),
        "nas_kd.preprocessing": "none; normalisation is in the graph",
        "nas_kd.accuracy": {"this_file": {"test": 0.875}},
        "nas_kd.input": {
            "name": "input",
            "dtype": "float32",
            "shape": ["batch", 1, 28, 28],
            "layout": "NCHW",
            "units": "pixels",
            "range": [0, 255],
            "colour": "grey",
            "picture": {"resize": "crop", "interpolation": "bicubic", "fill": 0},
        },
        "nas_kd.normalization": {"mean": [33.3184], "std": [78.5675]},
        "nas_kd.output": {"name": "logits", "kind": "logits", "temperature": 1.5},
        "nas_kd.calibration": {"ece": {"test": {"before": 0.2, "after": 0.1}}},
        "nas_kd.dataset": {"name": "photos", "license": "x" * 29 + "..."},
        "nas_kd.about": {"license": "apache-2.0"},
        "nas_kd.parity": {"max_abs_difference": 1e-6, "top1_agreement": 1.0},
        "nas_kd.versions": {"nas-kd": "0.2.0", "torch": "2.9.1+cpu", "onnxruntime": "1.23.2"},
    }
    assert metadata_size(data) < 1100
