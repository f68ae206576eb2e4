"""The page in a real browser: it draws, complains about nothing, asks for nothing, and follows a candidate."""

import json
from pathlib import Path

import pytest

from nas_kd.report import write_report

from .browser import Page
from .staged import staged_run
from .synthetic import synthetic_run

pytestmark = pytest.mark.browser


def opened(page: Page, out: Path, width: int = 1280, dark: bool = False, **how: object) -> None:
    page.open(write_report(synthetic_run(**how), out), width, dark=dark)


def spot(page: Page, selector: str) -> tuple[float, float]:
    """The middle of an element, after scrolling to it."""
    x, y = json.loads(
        page.evaluate(
            f"""(() => {{ const one = document.querySelector({selector!r});
            one.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = one.getBoundingClientRect();
            return JSON.stringify([box.x + box.width / 2, box.y + box.height / 2]); }})()"""
        )
    )
    return x, y


@pytest.mark.parametrize(
    ("width", "dark", "how"),
    [
        (1280, False, {}),
        (390, True, {}),
        (390, False, {"trials": 0, "state": "searching", "teacher": False}),
        (1280, True, {"trials": 5, "state": "searching"}),
        (390, True, {"trials": 40, "state": "unreachable"}),
        (390, False, {"hostile": True}),
        (1280, True, {"trials": 5000}),
    ],
    ids=str,
)
def test_the_page_draws_without_a_complaint_or_a_request(
    page: Page, tmp_path: Path, width: int, dark: bool, how: dict[str, object]
) -> None:
    opened(page, tmp_path, width, dark, **how)
    assert page.complaints() == []
    assert page.requests() == [(tmp_path / "index.html").as_uri()]
    assert page.evaluate("document.querySelectorAll('.picture svg').length") == (2 if how.get("trials") != 0 else 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(17, 22, 28)" if dark else "rgb(255, 255, 255)"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_a_search_with_rungs_fits_the_window(page: Page, tmp_path: Path, width: int) -> None:
    page.open(write_report(staged_run(200, once_for_all=True, predicts=False), tmp_path), width)
    assert page.complaints() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('table.plain').length") == 2


def test_the_pictures_hold_what_they_should(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    for axis in ("size", "latency"):
        for kind, number in {"winner": 1, "finalist": 4, "teacher": 1, "no_distillation": 5}.items():
            assert page.evaluate(f"document.querySelectorAll('#plot-{axis} path.mark.{kind}').length") == number
        for part in ("budget", "edge-label", "teacher-line", "step", "join", "ring"):
            assert page.evaluate(f"document.querySelectorAll('#plot-{axis} .{part}').length") >= 1
        assert "Winner: " in page.evaluate(f"document.querySelector('#plot-{axis} svg').getAttribute('aria-label')")


def test_a_click_marks_the_candidate_in_both_pictures_and_the_table(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    winner = page.evaluate("document.querySelector('#plot-size path.mark.winner').dataset.id")
    page.click(*spot(page, "#plot-size path.mark.winner"))
    rings = "[...document.querySelectorAll('.ring')].map((r) => r.getAttribute('visibility')).join()"
    chosen = "[...document.querySelectorAll('#finalist-table tr.chosen')].map((r) => r.dataset.id).join()"
    assert page.evaluate(rings) == "visible,visible"
    assert page.evaluate(chosen) == winner
    assert winner in page.evaluate("document.getElementById('chosen').textContent")
    for axis in ("size", "latency"):
        at = f"document.querySelector('#plot-{axis} path.mark.winner').getBBox()"
        off = page.evaluate(
            f"Math.abs({at}.x + {at}.width / 2 - document.querySelector('#plot-{axis} .ring').cx.baseVal.value)"
        )
        assert off < 1
    page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
    assert page.evaluate(rings) == "hidden,hidden"
    assert page.evaluate(chosen) == ""


def test_a_click_on_a_row_marks_the_pictures(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    page.click(*spot(page, "#finalist-table tr.finalist td:nth-child(2)"))
    assert page.evaluate("document.querySelectorAll('.ring[visibility=visible]').length") == 2


def test_hover_tells_architecture_chain_method_and_numbers(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    x, y = spot(page, "#plot-latency path.mark.winner")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    said = page.evaluate("document.querySelector('#plot-latency .tip').textContent")
    for part in ("2 stages", "teacher", "temperature", "kB", "p90", "test", "validation", "within the budget"):
        assert part in said


def test_a_column_sorts_and_the_teacher_stays_first(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    sizes = "[...document.querySelectorAll('#finalist-table tbody tr')].map((r) => r.cells[7].dataset.key)"
    before = page.evaluate(sizes)
    page.evaluate("document.querySelectorAll('#finalist-table thead button')[6].click()")
    after = page.evaluate(sizes)
    assert after[0] == before[0]
    assert [float(v) for v in after[1:]] == sorted((float(v) for v in before[1:]), reverse=True)
    assert page.evaluate("document.querySelectorAll('#finalist-table th')[6].getAttribute('aria-sort')") == "descending"


def test_the_close_view_leaves_the_teachers_point_out(page: Page, tmp_path: Path) -> None:
    opened(page, tmp_path)
    page.evaluate("document.querySelector('[data-view=close]').click()")
    assert page.evaluate("document.querySelectorAll('#plot-size path.mark.teacher').length") == 0
    assert page.evaluate("document.querySelectorAll('#plot-size path.mark.finalist').length") == 4
    page.evaluate("document.querySelector('[data-view=whole]').click()")
    assert page.evaluate("document.querySelectorAll('#plot-size path.mark.teacher').length") == 1
    assert page.complaints() == []
