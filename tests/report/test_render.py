"""Whole reports of synthetic runs: every state, hostile names, size, speed and reproducibility."""

import csv
import html
import io
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nas_kd.report import write_report
from nas_kd.report.content import build_content
from nas_kd.report.render import embedded_json, render_markdown, render_page
from nas_kd.results.run_record import RunState

from .rung_runs import run_with_rungs
from .synthetic import HOSTILE, synthetic_run

FILES = {"index.html", "report.md", "candidates.csv", "pareto_size.png", "pareto_latency.png"}
CASES: dict[str, dict[str, Any]] = {
    "empty": {"trials": 0, "state": "searching", "teacher": False},
    "five": {"trials": 5, "state": "searching"},
    "sixty": {},
    "unreachable": {"trials": 40, "state": "unreachable"},
    "finalists in training": {"state": "finalists", "finalists": 2},
    "no budget": {"budget": False},
    "no controls": {"controls": False},
    "no teacher": {"teacher": False},
    "teacher not exported": {"measured_teacher": False},
    "teacher not exported, no budget": {"measured_teacher": False, "budget": False},
    "no finalists": {"finalists": 0},
    "hostile": {"hostile": True},
}
CASES_WITH_RUNGS: dict[str, dict[str, Any]] = {
    "rungs": {},
    "five with rungs": {"trials": 5, "state": "searching"},
    "rungs in progress": {"trials": 100, "state": "searching"},
    "unreachable with rungs": {"trials": 40, "state": "unreachable"},
    "once for all": {"trials": 200, "once_for_all": True},
    "rungs that do not predict": {"trials": 400, "predicts": False},
}


def test_a_teacher_that_was_not_exported_has_unknown_costs(tmp_path: Path) -> None:
    page = write_and_read(tmp_path, measured_teacher=False)["report.md"]
    row = next(line for line in page.splitlines() if line.startswith("| Teacher"))
    assert row.count("unknown") == 3  # size, latency, whether it is within the budget
    assert "smaller than the teacher" not in page
    assert "the teacher's 99.1" in page


def write_and_read(out: Path, **options: Any) -> dict[str, str]:
    write_report(synthetic_run(**options), out)
    return {name: (out / name).read_text("utf-8") for name in ("index.html", "report.md", "candidates.csv")}


@pytest.mark.parametrize("case", CASES)
def test_every_state_of_a_run_gives_a_report(case: str, tmp_path: Path) -> None:
    options = CASES[case]
    files = write_and_read(tmp_path, **options)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    for section in ("summary", "fronts", "finalists", "distillation", "search", "methodology"):
        assert f'id="{section}"' in files["index.html"]
    for plot in ("pareto_size.png", "pareto_latency.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")
        assert plot in files["report.md"]
    assert len(list(csv.DictReader(io.StringIO(files["candidates.csv"])))) == options.get("trials", 60)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 1_500_000


@pytest.mark.parametrize("case", CASES_WITH_RUNGS)
def test_every_search_with_rungs_gives_a_report(case: str, tmp_path: Path) -> None:
    run = run_with_rungs(**CASES_WITH_RUNGS[case])
    write_report(run, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    rows = list(csv.DictReader(io.StringIO((tmp_path / "candidates.csv").read_text("utf-8"))))
    assert [row["status"] for row in rows] == [t.status for t in run.trials]
    assert [row["inherited_accuracy"] for row in rows] == [str(t.inherited_accuracy or "") for t in run.trials]


def test_unfinished_run_has_a_banner() -> None:
    states: tuple[RunState, ...] = ("searching", "finalists")
    for state in states:
        content = build_content(synthetic_run(state=state))
        assert "Unfinished run" in render_page(content)
        assert "Unfinished run" in render_markdown(content)
    assert "Unfinished run" not in render_page(build_content(synthetic_run()))


def test_winner_file_and_commands_are_page(tmp_path: Path) -> None:
    run = synthetic_run()
    write_report(run, tmp_path, command="nas-kd search again", file_sha256="fe" * 32)
    page, markdown = (tmp_path / "index.html").read_text("utf-8"), (tmp_path / "report.md").read_text("utf-8")
    for text in ("runs/digits/winner/student.onnx", "fe" * 32, "nas-kd search again", "--max-latency-ms 0.12"):
        assert text in page
        assert text in markdown
    assert "cannot be distinguished from the winner" in page


def test_checksum_without_metadata_is_named_as_such(tmp_path: Path) -> None:
    page = write_and_read(tmp_path)["index.html"]
    assert "sha256 without metadata" in page
    assert synthetic_run().finalists[0].seeds[1].sha256 in page


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    files = write_and_read(tmp_path, hostile=True)
    page = files["index.html"]
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert html.escape(HOSTILE.split("\n", maxsplit=1)[0], quote=False) in page.replace("&#34;", '"')
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert any(HOSTILE in point["lines"] for point in json.loads(data.group(1))["points"])
    outside = re.sub(r"```toml.*?```", "", files["report.md"], flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    rows = list(csv.DictReader(io.StringIO(files["candidates.csv"])))
    assert {row["description"] for row in rows} == {HOSTILE}


def test_page_loads_nothing(tmp_path: Path) -> None:
    page = write_and_read(tmp_path)["index.html"]
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"'#]+)""", page)
    assert addresses == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_equal_runs_give_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_report(synthetic_run(30), tmp_path / folder)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_five_thousand_trials_take_seconds(tmp_path: Path) -> None:
    run = synthetic_run(5000)
    started = time.perf_counter()
    write_report(run, tmp_path)
    assert time.perf_counter() - started < 15
    assert "The best 200 of" in (tmp_path / "index.html").read_text("utf-8")


def test_every_open_tag_is_closed() -> None:
    empty = {"meta", "link", "br", "img"}
    stack: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in empty:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    runs = [
        *(synthetic_run(**options) for options in CASES.values()),
        *(run_with_rungs(**options) for options in CASES_WITH_RUNGS.values()),
    ]
    for run in runs:
        Checker().feed(render_page(build_content(run)))
        assert stack == []


def test_csv_has_a_finalists_figures_and_no_formula(tmp_path: Path) -> None:
    run = synthetic_run()
    trial = run.trials[0].model_copy(update={"description": "=1+1"})
    write_report(run.model_copy(update={"trials": (trial, *run.trials[1:])}), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "candidates.csv").read_text("utf-8"))))
    assert rows[0]["description"] == "'=1+1"
    finalist = run.finalists[0]
    row = next(r for r in rows if r["trial"] == str(finalist.trial))
    assert float(row["final.test.mean"]) == finalist.test.mean
    assert float(row["final.no_distillation.gain.low"]) == finalist.controls[0].gain.low
    assert float(row["latency_p50_ms"]) == (finalist.costs.latency_ms.p50 if finalist.costs.latency_ms else None)
    assert json.loads(row["final.seeds"])[0]["seed"] == 0


def test_markdown_tables_keep_their_columns(tmp_path: Path) -> None:
    text = write_and_read(tmp_path, hostile=True)["report.md"]
    lines = [*text.splitlines(), *render_markdown(build_content(run_with_rungs(200, once_for_all=True))).splitlines()]
    for line, after in pairwise(lines):
        if line.startswith("|") and after.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", after)), (line, after)


def test_embedded_json_cannot_end_its_element() -> None:
    value = {"a": "</script><!--\u2028&"}
    text = embedded_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_failed_write_keeps_the_old_report(tmp_path: Path) -> None:
    files = write_and_read(tmp_path)
    (tmp_path / "candidates.csv").unlink()
    (tmp_path / "candidates.csv").mkdir()
    with pytest.raises(OSError, match="candidates"):
        write_report(synthetic_run(5), tmp_path)
    assert (tmp_path / "index.html").read_text("utf-8") == files["index.html"]
    assert {p.name for p in tmp_path.iterdir()} == FILES


def test_the_report_imports_neither_torch_nor_optuna() -> None:
    code = "import sys, nas_kd.report; print(sorted({'torch', 'optuna', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
