"""The page in a real browser: it draws without errors or requests, fits the window, and highlights candidates."""

import json
from pathlib import Path

import pytest

from nas_kd.report import write_report

from .headless_browser import Page
from .rung_runs import run_with_rungs
from .synthetic import synthetic_run

pytestmark = pytest.mark.browser


def open_report(page: Page, out: Path, width: int = 1280, dark: bool = False, **options: object) -> None:
    page.open(write_report(synthetic_run(**options), out), width, dark=dark)


def scroll_to(page: Page, selector: str) -> tuple[float, float]:
    """Scroll to an element and return the position of its centre in the window."""
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
    ("width", "dark", "options"),
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
def test_page_draws_without_errors_or_requests(
    page: Page, tmp_path: Path, width: int, dark: bool, options: dict[str, object]
) -> None:
    open_report(page, tmp_path, width, dark, **options)
    assert page.console_messages() == []
    assert page.requests() == [(tmp_path / "index.html").as_uri()]
    assert page.evaluate("document.querySelectorAll('.front-plot svg').length") == (
        2 if options.get("trials") != 0 else 0
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(17, 22, 28)" if dark else "rgb(255, 255, 255)"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_report_of_a_search_with_rungs_fits_the_window(page: Page, tmp_path: Path, width: int) -> None:
    page.open(write_report(run_with_rungs(200, once_for_all=True, predicts=False), tmp_path), width)
    assert page.console_messages() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('table.plain').length") == 2


def test_front_plots_draw_every_part(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    for axis in ("size", "latency"):
        for kind, number in {"winner": 1, "finalist": 4, "teacher": 1, "no_distillation": 5}.items():
            assert page.evaluate(f"document.querySelectorAll('#plot-{axis} path.point.{kind}').length") == number
        for part in ("budget", "limit-label", "teacher-line", "front-line", "control-line", "ring"):
            assert page.evaluate(f"document.querySelectorAll('#plot-{axis} .{part}').length") >= 1
        assert "Winner: " in page.evaluate(f"document.querySelector('#plot-{axis} svg').getAttribute('aria-label')")


def test_clicking_a_point_highlights_the_candidate_in_both_plots_and_the_table(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    winner = page.evaluate("document.querySelector('#plot-size path.point.winner').dataset.id")
    page.click(*scroll_to(page, "#plot-size path.point.winner"))
    rings = "[...document.querySelectorAll('.ring')].map((r) => r.getAttribute('visibility')).join()"
    selected = "[...document.querySelectorAll('#finalist-table .selected')].map((r) => r.dataset.id).join()"
    assert page.evaluate(rings) == "visible,visible"
    assert page.evaluate(selected) == winner
    assert winner in page.evaluate("document.getElementById('selection').textContent")
    for axis in ("size", "latency"):
        at = f"document.querySelector('#plot-{axis} path.point.winner').getBBox()"
        offset = page.evaluate(
            f"Math.abs({at}.x + {at}.width / 2 - document.querySelector('#plot-{axis} .ring').cx.baseVal.value)"
        )
        assert offset < 1
    page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
    assert page.evaluate(rings) == "hidden,hidden"
    assert page.evaluate(selected) == ""


def test_clicking_a_row_highlights_the_candidate_in_both_plots(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    page.click(*scroll_to(page, "#finalist-table tbody.finalist td:nth-child(2)"))
    assert page.evaluate("document.querySelectorAll('.ring[visibility=visible]').length") == 2


@pytest.mark.parametrize("width", [390, 1280])
def test_finalists_are_not_cut_off(page: Page, tmp_path: Path, width: int) -> None:
    open_report(page, tmp_path, width)
    box = "document.querySelector('#finalist-table').closest('.scroll')"
    if width == 1280:
        assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
    details = "[...document.querySelectorAll('#finalist-table .details div')]"
    assert page.evaluate(f"{details}.length") == 6
    assert page.evaluate(f"{details}.every((d) => d.getBoundingClientRect().right <= {width})")
    assert page.evaluate(f"{details}.every((d) => d.scrollWidth <= d.clientWidth)")


def test_legend_leaves_room_for_a_plot_on_a_phone(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path, 390)
    assert page.evaluate("document.querySelector('.legend').getBoundingClientRect().height") < 200


def test_tooltip_shows_architecture_chain_method_and_figures(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    x, y = scroll_to(page, "#plot-latency path.point.winner")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    text = page.evaluate("document.querySelector('#plot-latency .tooltip').textContent")
    for part in ("2 stages", "teacher", "temperature", "kB", "p90", "test", "validation", "within the budget"):
        assert part in text


def test_sorting_a_column_keeps_the_teacher_first(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    sizes = "[...document.querySelectorAll('#finalist-table tbody')].map((b) => b.rows[0].cells[2].dataset.key)"
    before = page.evaluate(sizes)
    page.evaluate("document.querySelectorAll('#finalist-table thead button')[2].click()")
    after = page.evaluate(sizes)
    assert after[0] == before[0]
    assert [float(v) for v in after[1:]] == sorted((float(v) for v in before[1:]), reverse=True)
    assert page.evaluate("document.querySelectorAll('#finalist-table th')[2].getAttribute('aria-sort')") == "descending"


def test_finalists_view_leaves_out_the_teacher(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path)
    page.evaluate("document.querySelector('[data-view=finalists]').click()")
    assert page.evaluate("document.querySelectorAll('#plot-size path.point.teacher').length") == 0
    assert page.evaluate("document.querySelectorAll('#plot-size path.point.finalist').length") == 4
    page.evaluate("document.querySelector('[data-view=all]').click()")
    assert page.evaluate("document.querySelectorAll('#plot-size path.point.teacher').length") == 1
    assert page.console_messages() == []
