"""Training recipes in all sections: how they were chosen, what they are in full, and teachers that need longer."""

import csv
import html
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_kd.report import write_report
from nas_kd.report.candidates_csv import candidates_csv
from nas_kd.report.choice_importance import choices_of
from nas_kd.report.content import build_content
from nas_kd.report.number_format import MINUS, MISSING, NBSP
from nas_kd.report.probe_plot import CHOSEN, RULES, build_probe_plot, setting_symbols
from nas_kd.report.recipe_choice import RecipeChoice, build_recipe_choices
from nas_kd.report.recipe_words import describe_choices
from nas_kd.report.render import render_markdown, render_page
from nas_kd.report.report_context import build_context
from nas_kd.report.training_facts import teacher_warnings, training_facts
from nas_kd.results.candidate import Recipe
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord, SmallStudentsRecord
from nas_kd.results.run_record import RunRecord
from tests.records import CANDIDATE, finalist, run, teacher, trial

from . import recipe_records as recipes
from .headless_browser import Page
from .synthetic import HOSTILE, synthetic_run

BY_RULES = RecipeRecord(recipe=recipes.RULES, origin="rules", rules=recipes.RULES)
DISTILL = {"momentum": 0.9, "warmup": 0.1, "ema": 0.1, "clip_norm": 5.0}


def run_with(record: RecipeRecord, **other: Any) -> RunRecord:
    return run(**({"recipe": record, "seconds": {"recipe": 20.0, "teacher": 100.0, "distill": 280.0}} | other))


def students(record: RecipeRecord, **other: Any) -> RecipeChoice:
    (choice,) = build_recipe_choices(run_with(record, **other))
    return choice


def facts(record: RunRecord) -> Mapping[str, str]:
    return dict(training_facts(record))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"batch_size": 32, "optimizer": "sgd", "learning_rate": 0.3}, "batch 32, sgd 0.3"),
        ({"learning_rate": 0.033}, "learning rate 0.033"),
        ({"optimizer": "adamw"}, "adamw"),
        ({"augment": "none", "weight_decay": 0.05, "epochs": 1}, "weight decay 0.05, no augmentation, 1 epoch"),
        ({}, ""),
    ],
)
def test_choices_in_words(choices: dict[str, Any], words: str) -> None:
    assert describe_choices(choices) == words


def test_a_chosen_recipe_says_its_worth_and_its_cost() -> None:
    text = students(recipes.probe(10)).text
    assert text.startswith(
        "Students are trained for 27 epochs with batch 16, sgd 0.3, augmentation standard: chosen by"
    )
    assert "(3 stages, 8-8-20 wide) with 10 settings; given: batch size." in text
    assert "After 9 of 27 epochs, it was 3.0 points of validation accuracy ahead of what the rules propose (" in text
    assert "Against the best setting without augmentation, standard augmentation was worth +1.2 points" in text
    assert f"took 34 epochs and 42{NBSP}s, 5{NBSP}% of the run's time." in text


def test_epochs_of_the_comparison_are_named_only_where_they_are_known() -> None:
    text = students(recipes.probe(4, gain=0.02, compared_epochs=0)).text
    assert "At equal epochs, it was 2.0 points" in text


def test_no_gain_is_claimed_over_a_setting_that_failed() -> None:
    probe = recipes.probe(3)
    failed = ProbeRecord(recipe=recipes.RULES, epochs=3, failed="NaN")
    text = students(probe.model_copy(update={"gain": 0.93, "settings": (failed, *probe.settings[1:])})).text
    assert "What the rules propose (batch 16, sgd 0.1, augmentation standard) could not be trained." in text
    assert "ahead" not in text


def test_the_rules_recipe_that_is_kept_and_augmentation_left_out_are_named_so() -> None:
    kept = students(recipes.probe(4, recipe=recipes.RULES, gain=0.0, augmentation_gain=-0.004))
    assert "no other setting was clearly ahead." in kept.text
    assert f"worth {MINUS}0.4 points" in kept.text
    assert [row.outcome for row in kept.rows[:2]] == ["kept: no other was clearly ahead", "ahead, but not clearly"]
    bare = replace(recipes.RULES, augment="none")
    text = students(recipes.probe(4, recipe=bare, augmentation_gain=0.05)).text
    assert "leaving augmentation out was worth +5.0 points" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"origin": "given", "given": ("batch_size",)}, "augmentation standard: as given."),
        ({"note": "too short a run"}, "samples. On the short trainings: too short a run."),
        ({"given": ("learning_rate",)}, "chosen by rules from the number and kind of samples; given: learning rate."),
    ],
)
def test_without_a_probe_there_is_a_sentence_alone(fields: dict[str, Any], words: str) -> None:
    choice = students(BY_RULES.model_copy(update=fields))
    assert choice.text.endswith(words)
    assert (choice.rows, choice.plot) == ((), None)


def test_the_table_says_what_became_of_each_setting() -> None:
    failed = ProbeRecord(recipe=replace(recipes.RULES, learning_rate=9.0), epochs=1, failed="the loss became NaN")
    probe = recipes.probe(4)
    rows = students(probe.model_copy(update={"settings": (*probe.settings, failed)})).rows
    assert [row.setting for row in rows] == [
        "batch 16, sgd 0.1, augmentation standard", "learning rate 0.3", "no augmentation", "learning rate 0.033",
        "learning rate 9",
    ]  # fmt: skip
    assert [row.outcome for row in rows] == [
        "not ahead at the end", "chosen", "stopped: others did better", "stopped: others did better",
        "failed: the loss became NaN",
    ]  # fmt: skip
    assert (rows[0].accuracy, rows[0].interval) == (f"90.0{NBSP}%", "88.0\u201391.7")  # Wilson, 1,000 samples
    assert (rows[4].accuracy, rows[4].interval) == (MISSING, "")
    assert [row.note for row in rows] == ["by rules", "", "", "", ""]


def test_a_probe_whose_time_was_over_does_not_blame_the_settings() -> None:
    rows = students(recipes.probe(4, note="its time was over after 4 settings")).rows
    assert rows[2].outcome == "not continued"


def test_lines_end_where_settings_were_stopped_and_the_chosen_one_is_on_top() -> None:
    probe = recipes.probe(10)
    plot = build_probe_plot(probe)
    assert plot is not None
    assert [line.symbol for line in plot.lines[-2:]] == [RULES, CHOSEN]
    assert [line.label for line in plot.lines[-2:]] == ["by rules", "chosen"]
    assert {line.label for line in plot.lines[:-2]} == {""}
    ends = {line.points[-1] for line in plot.lines}
    assert ends == {(s.epochs, s.val_accuracy) for s in probe.settings}
    assert plot.lines[-1].points[0] == (1, probe.settings[1].curve[0])
    assert all(tick.value == round(tick.value) for tick in plot.x.ticks)
    assert "10 settings" in plot.alt_text
    assert f"the chosen one 93.0{NBSP}% after 9 epochs" in plot.alt_text


@pytest.mark.parametrize("kept", [False, True])
def test_ten_settings_have_ten_marks(kept: bool) -> None:
    probe = recipes.probe(10, **({"recipe": recipes.RULES} if kept else {}))
    assert len(set(setting_symbols(probe))) == 10


def test_settings_without_a_curve_are_points_and_those_that_failed_have_none() -> None:
    settings = (
        recipes.setting(recipes.RULES, 9, 0.9, curve=()),
        recipes.setting(recipes.HIGHER, 9, 0.93, curve=(*[None] * 7, 0.92, 0.93)),  # its first epochs are not known
        ProbeRecord(recipe=replace(recipes.RULES, batch_size=64), epochs=3, failed="NaN"),
    )
    plot = build_probe_plot(recipes.probe(2, settings=settings))
    assert plot is not None
    assert [line.points for line in plot.lines] == [((9, 0.9),), ((8, 0.92), (9, 0.93))]
    assert build_probe_plot(recipes.probe(2, settings=settings[2:])) is None


def test_a_hopeless_setting_does_not_flatten_the_others() -> None:
    hopeless = recipes.setting(replace(recipes.RULES, learning_rate=9.0), 3, 0.1)
    probe = recipes.probe(9)
    plot = build_probe_plot(probe.model_copy(update={"settings": (*probe.settings, hopeless)}))
    assert plot is not None
    assert plot.n_below_view == 1
    assert 0.5 < plot.y.low < 0.8
    few = build_probe_plot(recipes.probe(2))
    assert few is not None
    assert few.y.low < 0.75 < min(line.points[-1][1] for line in few.lines)  # their rise is in view, too
    choice = students(probe.model_copy(update={"settings": (*probe.settings, hopeless)}))
    assert "1 line below this view." in choice.caption


def test_a_teachers_probe_has_a_table_and_no_picture() -> None:
    own = teacher().model_copy(update={"recipe": recipes.probe(3, seconds=30.0)})
    by_rules = teacher().model_copy(update={"recipe": BY_RULES})
    record = run_with(recipes.probe(2), teacher=by_rules, other_teachers=(own,))
    assert [(c.title, len(c.rows), c.plot is None) for c in build_recipe_choices(record)] == [
        ("The training recipe", 2, False),
        ("The training recipe of teacher 2", 3, True),
    ]
    assert build_recipe_choices(record)[1].text.startswith("Teacher 2 was trained for 27 epochs with")


def test_page_and_markdown_show_the_probe_escaped(tmp_path: Path) -> None:
    failed = ProbeRecord(recipe=replace(recipes.RULES, learning_rate=9.0), epochs=1, failed=HOSTILE)
    probe = recipes.probe(4, network=HOSTILE, note=HOSTILE)
    probe = probe.model_copy(update={"settings": (*probe.settings, failed)})
    record = synthetic_run().model_copy(update={"recipe": probe})
    write_report(record, tmp_path)
    page, markdown = (tmp_path / "index.html").read_text("utf-8"), (tmp_path / "report.md").read_text("utf-8")
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert page.count(html.escape(HOSTILE.split("\n", maxsplit=1)[0], quote=False)) == 3
    assert not re.search(r"(?<!\\)<", re.sub(r"```toml.*?```", "", markdown, flags=re.DOTALL))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert [line["label"] for line in json.loads(data.group(1))["probe"]["lines"]] == ["", "", "by rules", "chosen"]
    (row,) = [line for line in markdown.splitlines() if line.startswith("| learning rate 0.3 |")]
    assert row.count("|") == 6
    assert "| chosen |" in row
    assert "Validation accuracy of 4 settings by epoch" in markdown
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".html", ".md", ".csv"}


def test_older_runs_have_no_word_on_recipes() -> None:
    record = synthetic_run()
    content = build_content(record)
    assert content.search_history.recipes == ()
    assert content.summary.warnings == ()
    assert training_facts(record) == []
    (schedule,) = [f.text for f in content.methodology.facts if f.name == "Schedule"]
    assert schedule.startswith("Full schedule 30 epochs, batches of 128; in the search")
    assert "probe-plot" not in render_page(content).split("<script")[0]
    assert not any(name.startswith("training") for name in candidates_csv(content.context).split("\n")[0].split(","))


def test_the_recipe_is_stated_in_full_with_where_it_comes_from() -> None:
    record = run_with(recipes.probe(4), config={"distill": DISTILL | {"epochs": 27, "clip_norm": 1.0}})
    text = facts(record)["Training of students"]
    for part in (
        "27 epochs with batches of 16 samples;",
        "SGD with Nesterov momentum 0.9, peak learning rate 0.3, weight decay 0.0005;",
        f"linear warm-up over 10{NBSP}% of the schedule, then cosine decay to 0;",
        f"weights averaged with a time constant of 10{NBSP}% of the schedule;",
        "gradients clipped to a norm of 1 where the method allows it;",
        "augmentation standard. Given: epochs, batch size and clipping;",
        "found by short trainings: learning rate and augmentation;",
        "proposed by rules: optimizer and weight decay;",
        "defaults: momentum, warm-up and averaging.",
    ):
        assert part in text
    adamw = recipes.RULES.with_choices({"optimizer": "adamw"})
    text = facts(run_with(BY_RULES.model_copy(update={"recipe": adamw}), config={"distill": DISTILL}))[
        "Training of students"
    ]
    assert "AdamW with first beta 0.9, peak learning rate 0.01, weight decay 0.05" in text
    assert "proposed by rules: epochs, batch size," in text.lower()


def test_an_option_that_is_auto_is_not_stated_as_none() -> None:
    config = {"distill": DISTILL | {"epochs": None, "batch_size": None}, "search": {"recipe": ["batch_size"]}}
    content = build_content(run_with(BY_RULES, config=config))
    assert not any("None" in fact.text for fact in content.methodology.facts)
    assert "The search varied batch size;" in facts(content.context.run)["Training of students"]


@pytest.mark.parametrize(
    ("strength", "change", "words"),
    [
        ("standard", {"crop": 1, "flip": True, "cutout": 0}, "standard (random shifts of up to 1 pixel and mirroring)"),
        (
            "strong",
            {"crop": 4, "flip": False, "cutout": 8},
            "of up to 4 pixels and a blanked square of 8\u00d78 pixels)",
        ),
        ("standard", {"crop": 0, "flip": False, "cutout": 0}, "standard (which changes nothing on these data)"),
        (
            "strong",
            {"crop": 0, "flip": True, "cutout": 0, "resized_crop": 0.35, "colour": 0.2, "operations": 1, "erase": 0.25},
            "strong (random crops of 35\u00a0% of the area and more, resized, mirroring, colours changed by up to "
            "20\u00a0%, 1 random operation and a blanked rectangle in 25\u00a0% of the samples)",
        ),
        ("none", {"crop": 0, "flip": False, "cutout": 0}, "no augmentation."),
    ],
)
def test_augmentation_says_what_it_does_with_these_data(strength: str, change: dict[str, Any], words: str) -> None:
    chosen = BY_RULES.model_copy(update={"recipe": replace(recipes.RULES, augment=strength)})
    data = run().dataset
    assert data is not None
    data = data.model_copy(update={"augmentation": {strength: change}})
    own = teacher().model_copy(update={"recipe": chosen})
    found = facts(run_with(chosen, dataset=data, teacher=own))
    assert words in found["Training of students"]
    assert words in found["Training of the teacher"]
    if strength == "strong":  # teachers that see other samples may be shown other changes
        found = facts(run_with(chosen, dataset=data.model_copy(update={"teacher_view": True}), teacher=own))
        assert "pixels" not in found["Training of the teacher"]


@pytest.mark.parametrize(("given", "origin"), [({"epochs": 27}, "Given: epochs"), ({}, "Proposed by rules: epochs")])
def test_a_teachers_own_epochs_are_given(given: dict[str, int], origin: str) -> None:
    own = teacher().model_copy(update={"recipe": BY_RULES})
    config = {"distill": DISTILL, "teacher": [{"space": "resnet"} | given]}
    assert origin in facts(run_with(BY_RULES, config=config, teacher=own))["Training of the teacher"]
    assert "Proposed by rules: epochs" in facts(run_with(BY_RULES, config=config))["Training of students"]


def test_an_under_trained_teacher_is_a_warning_at_the_top_and_in_the_methodology() -> None:
    own = teacher().model_copy(update={"recipe": BY_RULES, "late_gain": 0.043})
    content = build_content(run_with(BY_RULES, teacher=own))
    (warning,) = content.summary.warnings
    assert warning.startswith("The teacher is under-trained: in the last fifth of its 27 epochs, its accuracy")
    assert "rose by 4.3 points" in warning
    assert warning in facts(content.context.run)["Training of the teacher"]
    page = render_page(content)
    assert page.index("under-trained") < page.index('id="fronts"')
    assert render_markdown(content).index("under-trained") < render_markdown(content).index("## Pareto fronts")


@pytest.mark.parametrize(("late_gain", "warned"), [(None, 0), (0.03, 0), (0.033, 1)])
def test_a_teacher_is_under_trained_beyond_chance_alone(late_gain: float | None, warned: int) -> None:
    own = teacher().model_copy(update={"late_gain": late_gain})  # 1,000 samples: chance is 3.2 points
    assert len(teacher_warnings(run(teacher=own))) == warned


def test_a_teacher_in_the_wrong_units_is_a_warning_at_the_top() -> None:
    advice = 'the preprocessing is probably wrong: accuracy 60% as it is, 90% with teacher.preprocessing = "unit"'
    content = build_content(run_with(BY_RULES, teacher=teacher().model_copy(update={"advice": advice})))
    assert content.summary.warnings == (f"The teacher: {advice}.",)
    assert "teacher.preprocessing" in render_markdown(content)


def test_a_choice_that_was_gaining_faster_says_that_it_was_behind() -> None:
    text = students(recipes.probe(3, gain=-0.015)).text
    assert "After 9 of 27 epochs, it was 1.5 points of validation accuracy behind what the rules propose (" in text
    assert "), and gaining faster." in text


def test_candidates_say_what_of_the_recipe_they_have_otherwise() -> None:
    recipe = Recipe("soft_targets", {"temperature": 4.0}, {"batch_size": 32, "learning_rate": 0.3, "optimizer": "sgd"})
    other = replace(CANDIDATE, recipe=recipe)
    record = run(
        trials=(trial(1, 0.8, 1000, 0.1), trial(2, 0.9, 1000, 0.1, candidate=other, id="b" * 12)),
        finalists=(finalist("b" * 12, 0.9, 1000, 0.1, candidate=other),),
    )
    content = build_content(record)
    details = dict(content.finalist_table.rows[-1].details)
    assert details["Training"] == "batch 32, sgd 0.3"
    assert [("Training" in dict(row.details)) for row in content.trial_table.rows] == [True, False]
    assert any("batch 32, sgd 0.3" in line for point in content.plot_points for line in point.lines)
    rows = list(csv.DictReader(io.StringIO(candidates_csv(build_context(record)))))
    assert [row["training.batch_size"] for row in rows] == ["", "32"]
    assert [row["training.learning_rate"] for row in rows] == ["", "0.3"]
    assert choices_of(record.trials[1], 27)["training: batch_size"] == 32


def test_trying_recipes_is_a_part_of_the_time() -> None:
    history = build_content(run_with(BY_RULES, trials=(trial(1, 0.8, 1000, 0.1),))).search_history
    assert {bar.name: round(bar.percent) for bar in history.time}["trying training recipes"] == 5
    assert "with the short trainings that chose the recipe, but without the teacher" in history.time_note


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("count", [2, 10])
def test_the_probe_is_drawn_and_fits_the_window(page: Page, tmp_path: Path, width: int, count: int) -> None:
    record = synthetic_run().model_copy(update={"recipe": recipes.probe(count)})
    page.open(write_report(record, tmp_path), width, dark=count == 2)
    assert page.console_messages() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('#probe-plot path.setting-line').length") == count
    assert page.evaluate("document.querySelectorAll('#probe-plot path.point').length") == count
    assert page.evaluate("document.querySelectorAll('.settings .mark path').length") == count
    assert page.evaluate("[...document.querySelectorAll('#probe-plot .letter')].map((t) => t.textContent).join()") == (
        "by rules,chosen"
    )
    assert "93.0" in page.evaluate("document.querySelector('#probe-plot svg').getAttribute('aria-label')")
    box = "document.querySelector('.settings')"
    assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_small_students_have_a_part_of_their_own(augment: str) -> None:
    base = replace(recipes.RULES, augment="standard")
    settings = tuple(
        ProbeRecord(recipe=replace(base, augment=a), epochs=3, val_score=score)
        for a, score in (("standard", 0.8), ("none", 0.9))
    )
    choice = RecipeRecord(
        recipe=replace(base, augment=augment),
        origin="probe",
        rules=base,
        network="1 stage, 4 wide",
        settings=settings,
        compared_epochs=3,
    )
    record = BY_RULES.model_copy(update={"small": SmallStudentsRecord(below_weights=3000, choice=choice)})
    _, small = build_recipe_choices(run_with(record))
    assert small.title == "The augmentation of small students"
    assert "students of fewer than 3,000 weights" in small.text
    words = "were trained with augmentation none" if augment == "none" else "are augmented as all others (standard)"
    assert words in small.text
    assert [row.note for row in small.rows] == ["as all others", ""]
    assert [row.accuracy for row in small.rows] == ["80.0\N{NO-BREAK SPACE}%", "90.0\N{NO-BREAK SPACE}%"]
