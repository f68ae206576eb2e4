"""What is found out about an exported file on validation, through ONNX Runtime: its temperature, or a threshold."""

from typing import Any

from nas_kd.data.dataset import Dataset
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.results.calibration import CalibrationRecord, calibrate


def calibrate_file(content: bytes, data: Dataset) -> CalibrationRecord | None:
    """Fit the temperature on validation, and judge it on validation and test.

    Args:
        content: an exported file.
        data: its splits.

    Returns:
        What was found; None where outputs are not probabilities of one class.

    Raises:
        InputError: the file does not take these samples.
    """
    if not data.task.one_class:
        return None
    classifier, splits = OnnxClassifier(content), {"val": data.val, "test": data.test}
    logits = {name: classifier.predict(split.x) for name, split in splits.items()}
    return calibrate(logits, {name: split.y.numpy() for name, split in splits.items()})


def decision_of_file(content: bytes, data: Dataset) -> dict[str, Any]:
    """How to decide by a file's outputs, as its task says; empty where these say all.

    Args:
        content: an exported file.
        data: its splits; validation is read.

    Raises:
        InputError: the file does not take these samples.
    """
    return data.task.decision_rule(OnnxClassifier(content).predict(data.val.x), data.val.y.numpy())
