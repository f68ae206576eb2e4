"""The tables and the picture of `benchmarks/precision.py`, from its result files."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from benchmarks.common import markdown_table
from nas_kd.config.options import QuantizationOptions
from nas_kd.errors import InputError
from nas_kd.results.candidate import Precision
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.intervals import accuracy_over_seeds, paired_gain
from nas_kd.serialization import write_atomic

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-qat", "int4-weights")
TIMED: tuple[Precision, ...] = ("fp32", "int8", "int4-weights")  # int8-qat has the nodes of int8
DEFAULT = "{0.calibration}, {0.samples} samples".format(QuantizationOptions())
LOSS, CLOSE = 0.005, 0.005  # half a point
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
PICTURE = "speed.png"


def gains(student: Mapping[str, Any], samples: int) -> dict[str, Accuracy]:
    """Of each precision over fp32, and of int8-qat over int8, paired by seed."""
    tested = {precision: student[precision]["test"] for precision in PRECISIONS}
    found = {p: paired_gain(tested[p], tested["fp32"], samples) for p in PRECISIONS if p != "fp32"}
    return found | {"int8-qat over int8": paired_gain(tested["int8-qat"], tested["int8"], samples)}


def points(gain: Accuracy) -> str:
    """A difference in points with its interval, as in `-0.4 [-0.9, 0.1]`."""
    return f"{gain.mean * 100:+.1f} [{gain.low * 100:.1f}, {gain.high * 100:.1f}]"


def accuracy_table(students: Sequence[Mapping[str, Any]], samples: int) -> str:
    """A row a student: accuracy in fp32, and what the others lose, in points."""
    rows = []
    for student in students:
        plain, of = accuracy_over_seeds(student["fp32"]["test"], samples), gains(student, samples)
        rows.append(
            [
                f"{student['space']}: {student['description']}",
                f"{student['parameters']:,}",
                f"{plain.mean * 100:.1f} [{plain.low * 100:.1f}, {plain.high * 100:.1f}]",
                *(points(of[p]) for p in (*PRECISIONS[1:], "int8-qat over int8")),
            ]
        )
    head = ["student", "weights", "fp32, %", *PRECISIONS[1:], "int8-qat over int8"]
    return markdown_table(head, rows)


def calibration_table(students: Sequence[Mapping[str, Any]], samples: int) -> str:
    """A row a student: what int8 loses by each way to find ranges of activations, in points."""
    names = list(int8_files(students[0]))
    rows = []
    for student in students:
        lost = [paired_gain(int8_files(student)[name], student["fp32"]["test"], samples) for name in names]
        rows.append([f"{student['space']}: {student['description']}", *map(points, lost)])
    return markdown_table(["student", *names], rows)


def speed_table(ladders: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A row a network: latencies, and how many times as fast and small as in fp32."""
    rows = []
    for space, ladder in ladders.items():
        for row in ladder:
            cells = [space, f"{row['parameters']:,}", f"{row['macs']:,}"]
            cells += [f"{median(row['ms'][p]):.4g}" for p in TIMED]
            cells += [gained(row, p) for p in TIMED[1:]]
            rows.append([*cells, *(f"{row['bytes'][p] / 1000:.1f}" for p in TIMED)])
    head = ["space", "weights", "multiply-adds", *(f"{p}, ms" for p in TIMED)]
    head += [*(f"{p}: times as fast" for p in TIMED[1:]), *(f"{p}, kB" for p in TIMED)]
    return markdown_table(head, rows)


def gained(row: Mapping[str, Any], precision: Precision) -> str:
    """`1.53 [1.52, 1.72]`: speed over that of fp32, with the least and the largest of a turn."""
    turns = ratios(row, precision)
    return f"{median(turns):.2f} [{min(turns):.2f}, {max(turns):.2f}]"


def turning_point(ladder: Sequence[Mapping[str, Any]]) -> str:
    """Up to which size int8 is slower than fp32, in words."""
    slower = [row for row in ladder if median(ratios(row, "int8")) < 1]
    if not slower:
        return "faster at every size"
    if len(slower) == len(ladder):
        return "slower at every size"
    largest = max(slower, key=lambda row: float(row["macs"]))
    faster = min((row for row in ladder if row not in slower), key=lambda row: float(row["macs"]))
    return f"slower up to {largest['macs']:,} multiply-adds, faster from {faster['macs']:,} on"


def verdict(students: Sequence[Mapping[str, Any]], samples: int) -> str:
    """The claims on accuracy, met or not, over all students."""
    files = [(student, name, tested) for student in students for name, tested in int8_files(student).items()]
    losing = [f for f in files if paired_gain(f[2], f[0]["fp32"]["test"], samples).mean <= -LOSS]
    plain = sum(name == DEFAULT for _, name, _ in losing)
    better = sum(paired_gain(s["int8-qat"]["test"], tested, samples).mean >= 0 for s, _, tested in losing)
    close = sum(gains(student, samples)["int8-qat"].mean >= -CLOSE for student in students)
    description = (
        f"- int8 after training loses half a point or more for {plain} of {len(students)} students where it is "
    )
    description += f"calibrated by default, in {len(losing)} of {len(files)} cases over all calibrations"
    description += f"; int8-qat is at least as accurate as int8 in {better} of these.\n" if losing else ".\n"
    return f"{description}- int8-qat is within half a point of fp32, or above it, for {close} of {len(students)}.\n"


def int8_files(student: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Test accuracies of its int8 files, by the way in which ranges of activations were found."""
    return {DEFAULT: student["int8"]["test"], **student["calibrations"]}


def ratios(row: Mapping[str, Any], precision: Precision) -> list[float]:
    """How many times as fast as fp32, turn by turn."""
    return [a / b for a, b in zip(row["ms"]["fp32"], row["ms"][precision], strict=True)]


def picture(ladders: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Speed of int8 over that of fp32 against multiply-adds, a line a space, with the range over turns. PNG."""
    with mpl.rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
        for (space, ladder), colour in zip(ladders.items(), COLOURS, strict=False):
            macs, turns = [row["macs"] for row in ladder], [ratios(row, "int8") for row in ladder]
            middle = [median(t) for t in turns]
            ranges = [[m - min(t) for m, t in zip(middle, turns, strict=True)]]
            ranges += [[max(t) - m for m, t in zip(middle, turns, strict=True)]]
            axes.errorbar(macs, middle, ranges, color=colour, marker="o", markersize=4, capsize=3, label=space)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.4, 2, 2.8]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel("multiply-adds a sample")
        axes.set_ylabel("int8: times as fast as fp32")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


INTRODUCTION = """\
Small students (by their places on each space's ladder of eight, 0 is the smallest) are distilled on CIFAR-10 by soft
targets: once in fp32, of which the fp32, int8 and int4-weights files are made, and once quantisation-aware for the
int8-qat file. Every accuracy is the file's through ONNX Runtime, on the test split. And the latency of every network
of both ladders, untrained, by turns.
"""


def write_report(out: Path) -> None:
    """`report.md` and a picture from the parts that are there.

    Raises:
        InputError: there are none.
    """
    if not any((out / f"{part}.json").exists() for part in ("accuracy", "speed")):
        raise InputError(f"{out} has neither accuracy.json nor speed.json")
    text = f"# Precision: accuracy, size and speed beside fp32\n\n{INTRODUCTION}"
    if (path := out / "accuracy.json").exists():
        text += accuracy_words(json.loads(path.read_text()))
    if (path := out / "speed.json").exists():
        found = json.loads(path.read_text())
        text += speed_words(found)
        write_atomic(out / PICTURE, picture(found["ladders"]))
    write_atomic(out / "report.md", text)


def accuracy_words(found: Mapping[str, Any]) -> str:
    """The section of the report on accuracy."""
    students, samples = found["students"], found["test_samples"]
    settings = {k: v for k, v in found["settings"].items() if k != "spaces"}
    description = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items())
    return (
        f"\n## Accuracy\n\n{verdict(students, samples)}\n"
        f"Settings: {description}. Differences in points of test accuracy, with 95 % intervals over "
        f"{len(settings['seeds'])} paired seeds.\n\n{accuracy_table(students, samples)}"
        "\n### int8 over fp32 by the way in which ranges of activations are found\n\n"
        f"Calibration on one sample is not advised; it is shown as a case in which int8 does lose.\n\n"
        f"{calibration_table(students, samples)}\n{machine_words(found)}"
    )


def speed_words(found: Mapping[str, Any]) -> str:
    """The section of the report on speed."""
    ladders = found["ladders"]
    turning = "".join(f"- {space}: int8 is {turning_point(ladder)}.\n" for space, ladder in ladders.items())
    return (
        f"\n## Speed by size\n\n{turning}\n![Speed of int8 over that of fp32, by size]({PICTURE})\n\n"
        f"Medians of {found['repeats']} measurements by turns; in brackets the least and the largest ratio of a turn."
        f"\n\n{speed_table(ladders)}\n{machine_words(found)}"
    )


def machine_words(found: Mapping[str, Any]) -> str:
    """The machine on which the figures were found."""
    return "Machine: " + ", ".join(f"{k} {v}" for k, v in found["machine"].items()) + ".\n"
