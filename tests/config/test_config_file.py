"""config.toml: what is read is what was meant, and every mistake is one clear line."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_kd.config.fields import is_auto, section_class
from nas_kd.config.loading import (
    commented_config,
    differing_keys,
    dump_config,
    load_config,
    merged,
    parse_override,
)
from nas_kd.config.options import RENAMED, Budget, DataOptions, DistillOptions, SearchConfig
from nas_kd.errors import InputError
from nas_kd.kd.config_checks import checked_config


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str | bytes, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def refused(path: Path | None, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def test_a_device_is_a_name_or_a_file_beside_the_config(write: Any, tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    path = write('[device]\nname = "boards/pi.toml"')
    assert load_config(path).device.name == str(folder / "boards" / "pi.toml")
    assert load_config(path, {"device.name": "my.toml"}, folder / "here").device.name == str(
        folder / "here" / "my.toml"
    )
    for name in ("cpu-2t", "package.module:Name", "http://board:8080"):
        assert load_config(write(f'[device]\nname = "{name}"')).device.name == name


def test_the_contract_s_example(write: Any, tmp_path: Path) -> None:
    config = load_config(
        write("""
        [data]
        source = "parquet"
        train = "cifar10-train.parquet"
        test = "/data/cifar10-test.parquet"
        train_rows = 10000
        [teacher]
        space = "resnet"
        [chain]
        max_assistants = 2
        [distill]
        methods = ["soft_targets", "soft_targets+similarity"]
        epochs = 30
        [budget]
        max_latency_ms = 0.5
        max_size_kb = 100
        [search]
        trials = 60
        precisions = ["fp32"]
        """)
    )
    assert config.data.train == tmp_path.resolve() / "cifar10-train.parquet"
    assert config.data.test == Path("/data/cifar10-test.parquet")
    assert config.budget.max_size_bytes == 100_000
    assert config.distill.methods == ("soft_targets", "soft_targets+similarity")
    assert config.teacher[0].space == "resnet"


def test_nothing_given_is_the_defaults(write: Any) -> None:
    assert load_config(None) == load_config(write("")) == SearchConfig()


def test_several_teachers_and_their_paths(write: Any, tmp_path: Path) -> None:
    path = write('[[teacher]]\nonnx = "a.onnx"\n[[teacher]]\nfactory = "m:f"\nweights = "../w.safetensors"\n')
    teachers = load_config(path, {"teacher.1.features": ["layer1"]}).teacher
    assert teachers[0].onnx == tmp_path.resolve() / "a.onnx"
    assert teachers[1].weights == tmp_path.resolve() / "../w.safetensors"
    assert teachers[1].features == ("layer1",)
    assert "teacher: there are 2; name one by its position: teacher.0 ... 1" in refused(path, {"teacher.epochs": 3})
    assert "name one by its position" in refused(path, {"teacher.2.epochs": 3})


def test_overrides_win_and_their_paths_are_the_working_folder_s(write: Any, tmp_path: Path) -> None:
    path = write('[data]\nsource = "npz"\npath = "a.npz"\n[search]\ntrials = 5\n[[teacher]]\nspace = "resnet"\n')
    elsewhere = tmp_path / "elsewhere"
    given_options = {"search.trials": 7, "data.path": "b.npz", "budget.max_size_kb": 3.5, "budget.max_latency_ms": None}
    config = load_config(path, {**given_options, "teacher.epochs": 4, "student.width": 16}, elsewhere)
    assert config.search.trials == 7
    assert config.data.path == elsewhere.resolve() / "b.npz"
    assert (config.budget.max_size_kb, config.budget.max_latency_ms) == (3.5, None)
    assert (config.teacher[0].space, config.teacher[0].epochs) == ("resnet", 4)
    assert config.student == {"width": 16}
    assert load_config(None, {"data.path": Path("/x.npz"), "data.augment.cutout": 2}).data.augment.cutout == 2


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_config(None, {"data.path": "~/x.npz"}).data.path == Path("/home/someone/x.npz")
    assert "no such user's home folder" in refused(None, {"data.path": "~unknown-of-this-name/x.npz"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[distill]\nepoch = 3", "distill.epoch: unknown key; did you mean 'epochs'?"),
        ("[serch]\ntrials = 3", "serch: unknown section; did you mean 'search'?"),
        ("trials = 3", "trials: unknown key; did you mean 'search.trials'?"),
        ("epochs = 3", "epochs: unknown key; did you mean 'teacher.epochs' or 'distill.epochs'?"),
        (
            "[search]\nzzz = 3",
            "search.zzz: unknown key; allowed: executor, inherit, max_minutes, once_for_all, precisions",
        ),
        ("[data.augment]\nflips = true", "data.augment.flips: unknown key; did you mean 'flip'?"),
        ("[[teacher]]\nspce = 1", "teacher.spce: unknown key; did you mean 'space'?"),
        ("[[teacher]]\n[[teacher]]\nspce = 1", "teacher.1.spce: unknown key; did you mean 'space'?"),
        ("[budget]\nmax_latency_ms = -1", "budget.max_latency_ms must be > 0, got -1"),
        ("[budget]\nmax_latency_ms = nan", "budget.max_latency_ms must be a finite number, got nan"),
        ("[budget]\nmax_size_kb = inf", "budget.max_size_kb must be a finite number, got inf"),
        ("[search]\ntrials = 0", "search.trials must be >= 1, got 0"),
        ("[search]\ntrials = 2.5", "search.trials must be a whole number, got 2.5"),
        ('[search]\ntrials = "20"', "search.trials must be a whole number, got '20'"),
        ("[search]\ntrials = true", "search.trials must be a whole number, got True"),
        ("[finalists]\ncontrols = 1", "finalists.controls: must be true, false or all, got 1"),
        ("[finalists]\ncontrols = 'maybe'", "finalists.controls: must be true, false or all, got 'maybe'"),
        ("[distill]\ntemperature = ['1', 2]", "distill.temperature.0 must be a number, got '1'"),
        ("[distill]\nmethods = 'dkd'", "distill.methods must be a list, got 'dkd'"),
        ("[distill]\nmethods = []", "distill.methods must have at least 1 items, got"),
        ("[distill]\nmethods = [1]", "distill.methods.0 must be a text, got 1"),
        ("[distill]\nbatch_size = 'big'", "distill.batch_size must be a whole number or \"auto\", got 'big'"),
        ("[distill]\nbatch_size = '64'", "distill.batch_size must be a whole number or \"auto\", got '64'"),
        ("[distill]\nbatch_size = 1", "distill.batch_size must be >= 2, got 1"),
        ("[distill]\nepochs = 'Auto'", "distill.epochs must be a whole number or \"auto\", got 'Auto'"),
        ("[distill]\nepochs = 2.5", 'distill.epochs must be a whole number or "auto", got 2.5'),
        ("[distill]\nlearning_rate = 'fast'", "distill.learning_rate must be a number or \"auto\", got 'fast'"),
        ("[distill]\nlearning_rate = true", 'distill.learning_rate must be a number or "auto", got True'),
        ("[distill]\nlearning_rate = 0", "distill.learning_rate must be > 0, got 0"),
        ("[distill]\nweight_decay = nan", 'distill.weight_decay must be a finite number or "auto", got nan'),
        ("[distill]\noptimizer = 'adam'", "must be 'sgd', 'adamw' or 'auto', got 'adam'; did you mean 'adamw'?"),
        ("[distill]\noptimizer = 'Auto'", "must be 'sgd', 'adamw' or 'auto', got 'Auto'; did you mean 'auto'?"),
        (
            "[data.augment]\nstrength = 'heavy'",
            "data.augment.strength must be 'none', 'standard', 'strong' or 'auto', got 'heavy'",
        ),
        ("[teacher]\nepochs = 'auto'", "teacher.epochs must be a whole number, got 'auto'"),
        (
            "[search]\nrecipe = ['epochs']",
            "'learning_rate', 'augment', 'optimizer' or 'mix', got 'epochs'",
        ),
        ("[data]\npath = 3", "data.path must be a path (a text), got 3"),
        ("search = 3", "search must be a section (a table), got 3"),
        ("student = 3", "student must be a table, got 3"),
        ("[engine]\nprecision = 'bf17'", "or 'bf16', got 'bf17'; did you mean 'bf16'?"),
        ("name = '../x'", "name must match ^[A-Za-z0-9]"),
        (
            "[teacher]\nspace = 'a'\nonnx = 'b'",
            "teacher: give one of space, factory, onnx, outputs; got space and onnx",
        ),
        ("[teacher]\nfactory = 'm:f'", "teacher: factory and weights go together"),
        ("[search]\ntrials = 0\nseed = -1", "search.trials must be >= 1, got 0 (and 1 more)"),
    ],
)
def test_mistakes_in_the_file(write: Any, text: str, message: str) -> None:
    assert message in refused(write(text))


AUTO_OPTIONS = {
    "data.unlabelled_share": 0.5,
    "data.cache": Path("/kept"),
    "data.score": "macro_f1",
    "data.embedding_width": 32,
    "data.augment.strength": "strong",
    "distill.epochs": 3,
    "distill.batch_size": 16,
    "distill.optimizer": "adamw",
    "distill.learning_rate": 0.02,
    "distill.weight_decay": 0.0,
}


def value_of(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("key", "value"), AUTO_OPTIONS.items())
def test_what_is_auto_is_none_and_loads_back(write: Any, tmp_path: Path, key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    assert value_of(SearchConfig(), key) is None
    assert load_config(write(f'[{section}]\n{name} = "auto"')) == load_config(write("")) == SearchConfig()
    given_options = load_config(None, {key: value})
    assert value_of(given_options, key) == value
    for config in (given_options, load_config(None, {key: "auto"})):
        assert load_config(write(dump_config(config))) == config


@pytest.mark.parametrize(("key", "value"), AUTO_OPTIONS.items())
def test_auto_overrides_what_the_file_gives(write: Any, key: str, value: Any) -> None:
    path = write(dump_config(load_config(None, {key: value})))
    assert value_of(load_config(path), key) == value
    assert value_of(load_config(path, dict([parse_override(f"{key}=auto")])), key) is None
    assert value_of(load_config(path, dict([parse_override(f'{key}="auto"')])), key) is None
    assert value_of(merged(load_config(path), {key: "auto"}), key) is None


def test_only_what_may_be_auto_is_marked() -> None:
    def marked(model: Any, header: str) -> set[str]:
        found = set[str]()
        for name, field in model.model_fields.items():
            full = f"{header}.{name}".strip(".")
            inner = section_class(field)
            found |= marked(inner, full) if inner else {full} if is_auto(field) else set()
        return found

    assert marked(SearchConfig, "") == AUTO_OPTIONS.keys()


def test_auto_in_python_and_its_mistakes_are_those_of_the_file() -> None:
    assert DistillOptions.model_validate({"batch_size": "auto"}).batch_size is None
    with pytest.raises(InputError, match=r'^distill\.batch_size must be a whole number or "auto", got \'big\'$'):
        DistillOptions(batch_size="big")  # type: ignore[arg-type]


def test_files_that_are_none(write: Any, tmp_path: Path) -> None:
    assert "no such file; `nas-kd init" in refused(tmp_path / "missing.toml")
    assert "is a folder" in refused(tmp_path)
    assert "not a text file in UTF-8 (byte 8)" in refused(write(b"name = '\xff'"))
    assert "not valid TOML" in refused(write("[data]\n\nsource = \n"))
    assert "line 3" in refused(write("[data]\n\nsource = \n"))
    assert "not valid TOML" in refused(write("x = " + "[" * 10_000))
    assert "not valid TOML" in refused(write("x = " + "9" * 5_000))
    assert "not valid TOML" in refused(write(b"\x00\x01\x02"))
    assert "cannot be read" in refused(write("") / "below")
    assert "cannot be read" in refused(Path("x" * 300))


def test_a_byte_order_mark_is_no_mistake(write: Any) -> None:
    assert load_config(write("\ufeff[search]\ntrials = 3\r\n")).search.trials == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[chain]\nladder = 4", "chain.ladder: renamed to chain.assistant_sizes"),
        ("[quantise]\naware_from = 0.5", "quantise.aware_from: renamed to quantization.qat_start"),
        ("[quantization]\naware_from = 0.5", "quantization.aware_from: renamed to quantization.qat_start"),
        ("[quantise]\nsamples = 9", "quantise.samples: renamed to quantization.samples"),
        ("[quantise]", "quantise: renamed to quantization"),
        ("quantise = 3", "quantise: renamed to quantization"),
        (
            "[search]\ntrials = 0\n[quantise]\nsamples = 9\n[chain]\nladder = 4",
            "quantise.samples: renamed to quantization.samples; chain.ladder: renamed to chain.assistant_sizes",
        ),
    ],
)
def test_renamed_options_are_refused_with_their_new_name(write: Any, text: str, message: str) -> None:
    assert refused(write(text)) == message


def test_renamed_options_are_refused_in_overrides(write: Any) -> None:
    assert refused(None, {"chain.ladder": 4}) == "chain.ladder: renamed to chain.assistant_sizes"
    path = write("[quantization]\nsamples = 9")
    assert refused(path, {"quantise.samples": 9}) == "quantise.samples: renamed to quantization.samples"


def test_keys_that_start_like_a_renamed_one_are_unknown(write: Any) -> None:
    assert "chain.ladders: unknown key" in refused(write("[chain]\nladders = 4"))
    assert "quantised: unknown section" in refused(write("[quantised]\nsamples = 9"))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_only_the_new_name_of_an_option_exists(old: str, new: str) -> None:
    def exists(key: str) -> bool:
        model: Any = SearchConfig
        for name in key.split("."):
            if model is None or name not in model.model_fields:
                return False
            model = section_class(model.model_fields[name])
        return True

    assert exists(new)
    assert not exists(old)


def test_mistakes_in_overrides(write: Any) -> None:
    assert "search.trails: unknown key; did you mean 'trials'?" in refused(None, {"search.trails": 3})
    assert "search.trials: is a value, not a section" in refused(write("[search]\ntrials = 3"), {"search.trials.x": 3})
    assert "budget.max_size_kb must be > 0, got -3" in refused(None, {"budget.max_size_kb": -3})
    assert "'search.' is no option" in refused(None, {"search.": 3})
    assert "'' is no option" in refused(None, {"": 3})
    assert "0: unknown key" in refused(None, {"0": 3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search.trials=20", ("search.trials", 20)),
        ("search.trials = 20", ("search.trials", 20)),
        ("device.name=cpu-1t", ("device.name", "cpu-1t")),
        ('device.name="3"', ("device.name", "3")),
        ('distill.methods=["dkd", "none"]', ("distill.methods", ["dkd", "none"])),
        ("finalists.controls=false", ("finalists.controls", False)),
        ("data.path=a=b.npz", ("data.path", "a=b.npz")),
        ("a=1\nb=2", ("a", "1\nb=2")),
        ("data.path=", ("data.path", "")),
        ("distill.batch_size=auto", ("distill.batch_size", "auto")),
    ],
)
def test_settings(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["", "search.trials", "=3", " = 3"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"must be section\.key=value"):
        parse_override(text)


VALUES = {
    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
    "data.source": st.text(max_size=8),
    "data.path": st.text(st.characters(codec="utf-8", exclude_characters="\x00~"), min_size=1, max_size=8).map(
        lambda s: "/" + s
    ),
    "data.train_rows": st.integers(1, 10**12),
    "data.augment.flip": st.booleans(),
    "data.augment.strength": st.sampled_from(["auto", "none", "standard", "strong"]),
    "distill.methods": st.lists(
        st.text(max_size=5), min_size=1, max_size=3, unique_by=lambda name: tuple(sorted(name.split("+")))
    ),
    "distill.learning_rate": st.floats(1e-300, 1e300) | st.just("auto"),
    "distill.batch_size": st.integers(2, 10**6) | st.just("auto"),
    "distill.optimizer": st.sampled_from(["auto", "sgd", "adamw"]),
    "distill.temperature": st.tuples(st.floats(0.1, 4), st.integers(5, 9)).map(list),
    "budget.max_latency_ms": st.floats(0, 10, exclude_min=True),
    "budget.max_size_kb": st.integers(1, 10**9),
    "search.seed": st.integers(0, 2**31 - 1),
    "teacher": st.lists(st.fixed_dictionaries({"epochs": st.integers(1, 9)}), min_size=1, max_size=3),
    "student": st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
@settings(max_examples=200, deadline=None)
def test_what_is_written_loads_back_equal(tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]) -> None:
    config = load_config(None, options)
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert differing_keys(config, load_config(path)) == []


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=4), st.data())
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused_in_one_line(value: Any, data: st.DataObject) -> None:
    sections = {k: section_class(f) for k, f in SearchConfig.model_fields.items()}
    options = [f"{s}.{k}" for s, model in sections.items() if model for k in model.model_fields] + list(sections)
    key = data.draw(st.sampled_from(options))
    message = ""
    try:
        load_config(None, {key: value})
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert "Error" not in message


def test_differing_keys_are_named() -> None:
    first = load_config(None, {"search.trials": 3, "budget.max_size_kb": 3})
    second = load_config(None, {"search.trials": 4, "teacher": [{"epochs": 3}], "student": {"width": 3}})
    assert differing_keys(first, second) == [
        "budget.max_size_kb",
        "search.trials",
        "student.width",
        "teacher.epochs",
    ]


def test_paths_are_written_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = SearchConfig.model_validate({"data": {"path": "x.npz"}})
    assert tomllib.loads(dump_config(config))["data"]["path"] == str(tmp_path / "x.npz")


def test_the_template_loads_to_the_defaults(write: Any) -> None:
    assert load_config(write(commented_config())) == SearchConfig()
    for key in AUTO_OPTIONS:
        assert re.search(rf'(?m)^{key.rpartition(".")[2]} = "auto" +# ', commented_config())


def test_the_template_names_every_option() -> None:
    lines = [line.removeprefix("# ") for line in commented_config().splitlines()]

    def check(model: Any, header: str) -> None:
        for name, field in model.model_fields.items():
            if inner := section_class(field):
                full = f"{header}.{name}".strip(".")
                assert any(line.startswith(f"[{full}]  # ") for line in lines)
                check(inner, full)
            else:
                place = [
                    n
                    for n, line in enumerate(lines)
                    if line.startswith((f"{name} = ", f"[{header}.{name}]", f"[{name}]"))
                ]
                assert place, name
                assert (field.description or "") in "\n".join(lines[n] for n in place)

    check(SearchConfig, "")


def test_every_option_and_section_is_described() -> None:
    def check(model: Any, header: str) -> None:
        for name, field in model.model_fields.items():
            full = f"{header}.{name}".strip(".")
            inner = section_class(field)
            assert len(((inner.__doc__ if inner else field.description) or "").split()) >= 3, full
            if inner:
                check(inner, full)

    check(SearchConfig, "")


def test_options_load_without_torch() -> None:
    code = "import sys, nas_kd.config.options, nas_kd.config.loading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_template_s_comments_stand_apart() -> None:
    assert all("  # " in line for line in commented_config().splitlines() if "=" in line and " # " in line[2:])


@pytest.mark.parametrize(("text", "value"), [("96", 96), ("[96, 128]", (96, 128)), ("4", 4), ("[1024, 4]", (1024, 4))])
def test_a_size_of_pictures_is_a_side_or_height_and_width(write: Any, tmp_path: Path, text: str, value: Any) -> None:
    config = load_config(write(f"[data]\nimage_size = {text}"))
    assert config.data.image_size == value
    assert load_config(write(dump_config(config), "written.toml")) == config
    assert DataOptions(image_size=value).image_size == value


@pytest.mark.parametrize(
    "text", ["3", "1025", "[96]", "[96, 128, 3]", "[3, 96]", "true", "96.0", '"96"', "[96, true]", "[]"]
)
def test_sizes_that_are_none(write: Any, text: str) -> None:
    assert refused(write(f"[data]\nimage_size = {text}")).startswith(
        "data.image_size: must be a side in pixels from 4 to 1024, or [height, width], got "
    )


def test_the_minimum_score_has_one_name_and_is_about_the_score(tmp_path: Path) -> None:
    def refusal(text: str) -> str:
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(InputError) as error:
            load_config(tmp_path / "c.toml")
        return str(error.value)

    assert Budget(min_score=0.5).least_score == Budget(min_accuracy=0.5).least_score == 0.5
    assert Budget().least_score is None
    assert "older name of min_score" in refusal("[budget]\nmin_score = 0.5\nmin_accuracy = 0.5")
    message = refusal('[data]\nscore = "macro_f1"\n[budget]\nmin_accuracy = 0.5')
    assert message.startswith("budget.min_accuracy asks for an accuracy, but data.score is 'macro_f1'")


@pytest.mark.parametrize("given", ['"balance"', "[1.0]", "[1, 0]", "[1, -2.0]", '["a", "b"]', "[true, 1]", "3"])
def test_class_weights_are_a_word_or_a_positive_number_for_each_class(given: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f"[distill]\nclass_weights = {given}")
    with pytest.raises(
        InputError, match=r"^distill\.class_weights: must be none, balanced or a list with a number > 0"
    ):
        load_config(tmp_path / "c.toml")


def test_class_weights_survive_being_written(tmp_path: Path) -> None:
    for weights in ("none", "balanced", (1.0, 2.5)):
        config = SearchConfig.model_validate({"distill": {"class_weights": weights}})
        (tmp_path / "c.toml").write_text(dump_config(config))
        assert load_config(tmp_path / "c.toml").distill.class_weights == weights


def test_methods_may_be_auto_which_is_as_if_left_out(write: Any) -> None:
    config = load_config(write('[distill]\nmethods = "auto"\n[chain]\nmethod = "auto"\n'))
    assert "methods" not in config.distill.model_fields_set
    assert "method" not in config.chain.model_fields_set
    assert checked_config(config).distill.methods == SearchConfig().distill.methods
    numbers = config.model_copy(update={"data": config.data.model_copy(update={"task": "regression"})})
    found = checked_config(numbers)
    assert (found.distill.methods[0], found.chain.method) == ("logits", "logits")
