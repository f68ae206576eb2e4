"""The metadata of an exported file: what is needed to run it from itself alone, and where it comes from.

They are a selection of the card's facts. Their size is the same for all students of a run, and known before the first
one is trained: what differs between students, or may change after the run, has a reserved width that spaces fill up.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from nas_kd.deployment.card import data_facts, student_facts
from nas_kd.deployment.facts import StudentFacts
from nas_kd.export.onnx_export import set_metadata
from nas_kd.results.run_record import DatasetRecord

LARGEST = 9.999e6  # of numbers with a reserved width: larger ones are written with more digits


class EmbeddedFact(NamedTuple):
    """One fact of a property.

    Attributes:
        path: of the fact in the property, with dots.
        width: bytes that are reserved for its JSON; None: it follows from the data, and takes what it needs.
        digits: significant digits of its numbers.
    """

    path: str
    width: int | None = None
    digits: int = 6


_Id = partial(EmbeddedFact, width=14)
_Text = partial(EmbeddedFact, width=34)
_Version = partial(EmbeddedFact, width=22)
_Number = partial(EmbeddedFact, width=10, digits=4)
_ExactNumber = partial(EmbeddedFact, width=22, digits=17)

EMBEDDED: Mapping[str, tuple[EmbeddedFact, ...]] = {  # no facts: the whole property, which follows from the data
    "nas_kd.candidate": (_Id("id"),),
    "nas_kd.classes": (),
    "nas_kd.preprocessing": (),
    "nas_kd.accuracy": (_ExactNumber("this_file.test"),),
    "nas_kd.input": tuple(
        EmbeddedFact(path)
        for path in (
            *("name", "dtype", "shape", "layout", "units", "range", "colour"),
            *("picture.resize", "picture.interpolation", "picture.fill"),
        )
    ),
    "nas_kd.normalization": (EmbeddedFact("mean"), EmbeddedFact("std")),
    "nas_kd.output": (EmbeddedFact("name"), EmbeddedFact("kind"), _Number("temperature")),
    "nas_kd.calibration": (_Number("ece.test.before"), _Number("ece.test.after")),
    "nas_kd.dataset": (_Text("name"), _Text("license")),
    "nas_kd.about": (_Text("license"),),
    "nas_kd.parity": (_Number("max_abs_difference"), _Number("top1_agreement")),
    "nas_kd.versions": (_Version("nas-kd"), _Version("torch"), _Version("onnxruntime")),
}


def with_metadata(onnx: bytes, facts: StudentFacts) -> bytes:
    """Write a student's metadata into its file, which becomes `metadata_size` bytes longer."""
    return set_metadata(onnx, metadata(student_facts(facts)))


def metadata_size(data: DatasetRecord) -> int:
    """Size in bytes of the metadata of every student that is trained on these data."""
    return len(set_metadata(b"", metadata(data_facts(data))))


def metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """Write the embedded facts as JSON, texts as they are, by property.

    Args:
        facts: of the card. Those with a reserved width may be missing: the texts have the same lengths without them.
    """
    return {name: _property(facts.get(name), embedded) for name, embedded in EMBEDDED.items()}


def _property(value: Any, embedded: tuple[EmbeddedFact, ...]) -> str:
    if not embedded:
        return value if isinstance(value, str) else _json(value)
    chosen, spaces = dict[str, Any](), 0
    for fact in embedded:
        *parents, last = fact.path.split(".")
        found, into = value, chosen
        for name in (*parents, last):
            found = found.get(name) if isinstance(found, Mapping) else None
        if fact.width is None and found is None:
            continue
        for name in parents:
            into = into.setdefault(name, {})
        into[last] = found = _fitted(_rounded(found, fact), fact.width)
        spaces += 0 if fact.width is None else fact.width - _width(found)
    return _json(chosen) + " " * spaces


def _rounded(value: Any, fact: EmbeddedFact) -> Any:
    if isinstance(value, list):
        return [_rounded(one, fact) for one in value]
    if not isinstance(value, float):
        return value
    if fact.width is not None:
        value = max(-LARGEST, min(value, LARGEST))
    return float(f"{value:.{fact.digits}g}")


def _fitted(value: Any, width: int | None) -> Any:
    """The value, a text being cut where it is longer than its width."""
    if not isinstance(value, str) or width is None or _width(value) <= width:
        return value
    while _width(f"{value}...") > width:
        value = value[:-1]
    return f"{value}..."


def _json(value: Any) -> str:
    """Compact JSON: two bytes of UTF-8 instead of six of ASCII for a Greek letter, three for a Chinese character."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, from the name of a file
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def _width(value: Any) -> int:
    return len(_json(value).encode())
