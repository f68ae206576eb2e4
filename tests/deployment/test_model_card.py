"""The README beside a file: its head is YAML whatever is in it, its text shows what users wrote literally."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas_kd.config.card_options import CardOptions
from nas_kd.data.picture_steps import PictureSteps
from nas_kd.deployment.card import build_card, input_facts
from nas_kd.deployment.facts import StudentFacts
from nas_kd.deployment.model_card import front_matter, model_card, yaml_string
from nas_kd.export.onnx_export import export_onnx
from nas_kd.results.calibration import BeforeAfter, CalibrationRecord
from nas_kd.results.run_record import DatasetRecord, DeviceRecord
from tests import records

NAMES = {"onnx": "student.onnx", "card": "card.json", "program": "predict.py"}
HOSTILE = 'x: "y"\n---\n# | `z` <script> \u2028 \x85 \udcff 😀'


def dataset(**fields: Any) -> DatasetRecord:
    default: dict[str, Any] = {
        "name": "photos",
        "source": "image_folder",
        "key": "0" * 64,
        "classes": ("cat", "dog"),
        "input_shape": (3, 32, 48),
        "scale": 255.0,
        "n_train": 100,
        "n_val": 50,
        "n_test": 40,
        "picture_steps": PictureSteps((32, 48), "letterbox", "rgb").to_json(),
    }
    return DatasetRecord(**{**default, **fields})


def facts(**fields: Any) -> StudentFacts:
    calibration = CalibrationRecord(
        temperature=1.5, fitted=True, samples=50, ece={"test": BeforeAfter(before=0.2, after=0.1)}
    )
    default: dict[str, Any] = {
        "candidate": records.CANDIDATE,
        "description": "two layers",
        "data": dataset(),
        "val": records.accuracy(0.9),
        "test": records.accuracy(0.875),
        "val_over_seeds": records.accuracy(0.9),
        "test_over_seeds": records.accuracy(0.87),
        "seed": 1,
        "parity": 1e-6,
        "agreement": 1.0,
        "calibration": calibration,
        "costs": records.costs(23_400, 0.25),
        "device": DeviceRecord(name="cpu-1t", description="one core", batch_size=1, environment={"cpu": "A CPU"}),
        "teacher": records.teacher(),
        "versions": {"onnx": "1.0"},
    }
    return StudentFacts(**{**default, **fields})


def head(text: str) -> dict[str, Any]:
    _, yaml_text, _ = text.split("---\n", 2)
    value: dict[str, Any] = yaml.safe_load(yaml_text)
    return value


def test_the_head_is_what_hugging_face_reads() -> None:
    card = CardOptions(license="apache-2.0", tags=("cats", "onnx"))
    read = head(model_card(facts(card=card), NAMES, 23_400))
    assert (read["license"], read["library_name"], read["pipeline_tag"]) == (
        "apache-2.0",
        "onnx",
        "image-classification",
    )
    assert read["tags"].count("onnx") == 1
    assert "cats" in read["tags"]
    (entry,) = read["model-index"]
    (result,) = entry["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "photos", "type": "photos", "split": "test"}
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.875)


def test_what_is_not_known_is_not_claimed() -> None:
    read = head(model_card(facts(data=dataset(input_shape=(2, 50), scale=1.0, picture_steps=None)), NAMES, 1))
    assert "license" not in read
    assert "pipeline_tag" not in read
    assert read["model-index"][0]["results"][0]["task"] == {"type": "other"}
    text = model_card(facts(calibration=None, device=None, costs=records.costs(1, None), teacher=None), NAMES, 1)
    assert "The temperature was not fitted." in text
    assert "Latency" not in text
    assert "Teacher" not in text
    assert "- This file: not stated\n- Training data (photos): not stated" in text


def test_sections_say_what_a_user_has_to_know() -> None:
    text = model_card(facts(), NAMES, 23_400)
    for said in (
        "python predict.py photo.jpg",
        "- `input`: float32 `(batch, 3, 32, 48)`, pixels 0..255 (RGB), layout NCHW.",
        "the whole picture is resized, with bars to 48 x 32 pixels (width x height), bicubic",
        "`softmax(logits / 1.5)`. The temperature was fitted on 50 validation samples.",
        "Expected calibration error on test: 0.200 without it, 0.100 with it.",
        "| test | 1000 | 87.5 % (86.5 to 88.5) | 87.0 % (86.0 to 88.0) |",
        "- Size: 23.4 kB, ",
        "median 0.25 ms a call (95 % interval 0.2475 to 0.2525 ms) on cpu-1t (one core), batch 1",
        "- Teacher: big, validation accuracy 90.0 % (89.0 to 91.0)",
        r"- Method: soft\_targets (temperature 4)",
    ):
        assert said in text, said


def test_hostile_text_stays_text() -> None:
    card = CardOptions(
        license=HOSTILE, author=HOSTILE, description=f"- {HOSTILE}", dataset_license=HOSTILE, tags=HOSTILE
    )  # type: ignore[arg-type]
    text = model_card(facts(card=card, data=dataset(name=HOSTILE, classes=(HOSTILE, "b"))), NAMES, 1)
    text.encode()  # a lone surrogate could not be written
    read = head(text)
    shown = HOSTILE.replace("\udcff", "?")
    assert read["license"] == read["model-index"][0]["results"][0]["dataset"]["name"] == shown
    assert shown in read["tags"]
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body.replace(r"\<script\>", "")
    assert "\n---\n" not in body
    assert [line for line in body.splitlines() if line.startswith("\\- x: ")]


@given(st.text())
def test_any_text_is_read_back_from_yaml(text: str) -> None:
    expected = text.encode("utf-8", "replace").decode()
    assert yaml.safe_load(yaml_string(text)) == expected
    assert yaml.safe_load(f"a: {yaml_string(text)}\nb:\n- {yaml_string(text)}") == {"a": expected, "b": [expected]}


@given(st.text(min_size=1), st.text())
def test_any_name_leaves_the_head_valid(name: str, license: str) -> None:
    read = yaml.safe_load(front_matter(facts(data=dataset(name=name), card=CardOptions(license=license or None))))
    assert read["model-index"][0]["results"][0]["dataset"]["name"] == name.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("shape", "scale", "expected"),
    [
        ((3, 8, 6), 255.0, ("NCHW", "RGB", [0, 255], True)),
        ((1, 8, 6), 255.0, ("NCHW", "grey", [0, 255], True)),
        ((4, 8, 6), 255.0, ("NCHW", None, [0, 255], False)),  # bands that are no colours
        ((1, 8, 6), 1.0, ("NCHW", "grey", [-1.5, 2.0], False)),
        ((5,), 1.0, ("ND1", None, [-1.5, 2.0], False)),
    ],
)
def test_inputs_of_every_kind(shape: tuple[int, ...], scale: float, expected: tuple[Any, ...]) -> None:
    record = dataset(input_shape=shape, scale=scale, value_range=(-1.5, 2.0), picture_steps=None)
    found = input_facts(record)
    assert (found["layout"], found["colour"], found["range"], found["picture"] is not None) == expected
    assert found["shape"] == ["batch", *shape]
    if found["picture"] is not None:
        assert found["picture"]["as_in_training"] is False
        assert tuple(found["picture"]["image_size"]) == shape[1:]


def test_an_older_run_has_a_card_all_the_same() -> None:
    onnx = export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 48, 2)), (3, 32, 48))
    old = dataset(picture_steps=None)  # and neither mean, std nor range
    card = build_card(facts(data=old, calibration=None, versions={}, recipe={}), onnx, "a.onnx")
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["nas_kd.output"]["temperature"] == 1.0
    assert card["nas_kd.normalization"] == {"in_graph": True, "mean": None, "std": None, "units": "of the input"}
    assert card["nas_kd.calibration"]["fitted"] is False
