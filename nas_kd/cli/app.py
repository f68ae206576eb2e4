"""The command line: parses, calls, prints."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas_kd.cli.exit_codes import exit_on_errors
from nas_kd.errors import InputError

app = typer.Typer(
    name="nas-kd",
    help="Search, distill and export small networks for a device budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path | None, typer.Argument(help="config.toml (`nas-kd init` writes one); none: the digits demo")
]
RunDir = Annotated[
    Path | None, typer.Option(help="folder of the run; an unfinished one is resumed [default: runs/NAME]")
]
MaxLatency = Annotated[float | None, typer.Option(help="median milliseconds a call")]
MaxSize = Annotated[float | None, typer.Option(help="size of the ONNX file; 1 kB = 1,000 bytes")]
MaxMemory = Annotated[float | None, typer.Option(help="peak memory of a session; 1 kB = 1,000 bytes")]
MaxMacs = Annotated[float | None, typer.Option(help="multiply-adds a sample")]
MinScore = Annotated[
    float | None, typer.Option(help="of data.score on validation, 0..1: the fastest that reaches it wins")
]
MinAccuracy = Annotated[float | None, typer.Option(help="older name of --min-score, where the score is accuracy")]
LISTED = (
    "methods | spaces | datasets | tasks | devices | precisions | policies | samplers | executors | scores | "
    "baselines | collections | heads"
)
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="show log messages, and what libraries print; else they are in run.log")
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="SECTION", help="leave out a section of a shared config that this command would refuse"),
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="override any option")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from nas_kd import __version__

        typer.echo(f"nas-kd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Search, distill and export small networks for a device budget."""


@app.command()
def search(
    config: ConfigFile = None,
    run_dir: RunDir = None,
    task: Annotated[
        str | None, typer.Option(help="what the data ask of a network; without CONFIG: the demo of this task")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="candidates to propose")] = None,
    max_latency_ms: MaxLatency = None,
    max_size_kb: MaxSize = None,
    max_memory_kb: MaxMemory = None,
    max_macs: MaxMacs = None,
    min_score: MinScore = None,
    min_accuracy: MinAccuracy = None,
    device: Annotated[
        str | None, typer.Option(help="profile (`nas-kd list devices`), your own .toml, or http://AGENT:PORT/PROFILE")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="candidates trained at the same time")] = None,
    seed: Annotated[int | None, typer.Option(help="root of every random choice")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="stop proposing after this many minutes; finalists follow")
    ] = None,
    settings: Settings = None,
    ignore: Ignore = None,
    verbose: Verbose = False,
) -> None:
    """Search for the most accurate student within the budget; write the winner and the report.

    Exit codes: 0 done, 2 bad input, 3 the budget cannot be met, 130 interrupted (the same command resumes).
    """
    flags = {
        "search.trials": trials,
        "budget.max_latency_ms": max_latency_ms,
        "budget.max_size_kb": max_size_kb,
        "budget.max_memory_kb": max_memory_kb,
        "budget.max_macs": max_macs,
        "budget.min_score": min_score,
        "budget.min_accuracy": min_accuracy,
        "device.name": device,
        "search.workers": workers,
        "search.seed": seed,
        "search.max_minutes": max_minutes,
    }
    with exit_on_errors():
        from nas_kd.api import functions
        from nas_kd.cli.console import ConsoleCallback
        from nas_kd.cli.printed_results import print_result

        options = _load(config, flags, settings, ignore, "search", task=task)
        folder = run_dir or functions.default_run_dir(options)
        with ConsoleCallback(options, verbose) as callback:
            run = functions.search(options, run_dir=folder, callbacks=callback)
        print_result(run.record, folder)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="folder of a run, finished or not")],
    out: Annotated[Path | None, typer.Option(help="folder to write [default: RUN_DIR/report]")] = None,
) -> None:
    """Write the report (HTML, Markdown, CSV, PNG) of a run."""
    with exit_on_errors():
        from nas_kd.api.run import Run

        run = Run.read(run_dir)
        page = run.write_report(out)
        if run.state != "finished":
            typer.echo(f"the run is not finished (state: {run.state}); the report says how far it has come")
        typer.echo(page)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="folder of a run with finalists")],
    out: Annotated[Path, typer.Option(help="the ONNX file to write; card, README and predict.py go beside it")],
    max_latency_ms: MaxLatency = None,
    max_size_kb: MaxSize = None,
    max_memory_kb: MaxMemory = None,
    max_macs: MaxMacs = None,
    min_score: MinScore = None,
    min_accuracy: MinAccuracy = None,
    trial: Annotated[int | None, typer.Option(help="this trial's candidate, whatever the budget")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="card.KEY=VALUE", help="override an option of card")
    ] = None,
) -> None:
    """Write the best finalist under another budget, without searching again."""
    with exit_on_errors():
        from nas_kd.cli.printed_results import print_finalist
        from nas_kd.commands.write_winner import export_winner
        from nas_kd.config.loading import card_overrides, load_config
        from nas_kd.context.run_folder import RunFolder
        from nas_kd.tasks.base import load_task

        limits = {
            "budget.max_latency_ms": max_latency_ms,
            "budget.max_size_kb": max_size_kb,
            "budget.max_memory_kb": max_memory_kb,
            "budget.max_macs": max_macs,
            "budget.min_score": min_score,
            "budget.min_accuracy": min_accuracy,
        }
        given = any(limit is not None for limit in limits.values())
        budget = load_config(None, limits).budget if given else None
        finalist = export_winner(run_dir, out, budget, trial=trial, card=card_overrides(settings))
        task = load_task(load_config(RunFolder(run_dir).config).data.task)
        print_finalist(finalist, task.headline_score.title, out)


@app.command()
def distill(
    config: Annotated[Path, typer.Argument(help="config.toml; its section student is the architecture")],
    run_dir: RunDir = None,
    settings: Settings = None,
    ignore: Ignore = None,
    verbose: Verbose = False,
) -> None:
    """Distill one student without a search."""
    with exit_on_errors():
        from nas_kd.api import functions
        from nas_kd.cli.console import ConsoleCallback
        from nas_kd.cli.printed_results import print_distilled

        options = _load(config, {}, settings, ignore, "distill")
        with ConsoleCallback(options, verbose) as callback:
            distilled = functions.distill_config(options, run_dir=run_dir, callbacks=callback)
        print_distilled(distilled)


@app.command()
def profile(
    config: Annotated[Path, typer.Argument(help="config.toml")],
    sample: Annotated[int, typer.Option(min=2, help="networks to draw at random and measure")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead")] = False,
    max_minutes: Annotated[float | None, typer.Option(help="stop by then with what was measured")] = None,
    settings: Settings = None,
    ignore: Ignore = None,
    verbose: Verbose = False,
) -> None:
    """Estimate a search: what networks cost on the device, whether the budget is reachable, and how long it takes.

    Nothing is trained in full, and nothing is written.
    """
    with exit_on_errors():
        from nas_kd.cli.console import ConsoleCallback
        from nas_kd.cli.profile_table import print_profile, profile_json
        from nas_kd.commands.profile import OutOfTime, profile_space

        options = _load(config, {}, settings, ignore, "profile")
        try:
            with ConsoleCallback(options, verbose) as callback:
                row = callback.print_costs
                profiled = profile_space(options, sample, callback, max_minutes=max_minutes, on_costs=row)
        except OutOfTime:
            typer.echo(f"stopped after {max_minutes:g} minutes, before a network was measured; give more --max-minutes")
            return
        if as_json:
            typer.echo(profile_json(profiled))
        else:
            print_profile(profiled)


@app.command()
def measure(
    model: Annotated[Path, typer.Argument(help="any ONNX classifier; its .onnx.data is read beside it")],
    device: Annotated[
        str, typer.Option(help="profile (`nas-kd list devices`), your own .toml, or http://AGENT:PORT/PROFILE")
    ] = "cpu-1t",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="samples a call [default: the device's, else 1]")
    ] = None,
    input_shape: Annotated[str | None, typer.Option(help="one sample's, for an open input: 3,224,224")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure latency, size, memory and operators of an ONNX file."""
    with exit_on_errors():
        import json

        from nas_kd.cli.device_tables import print_measured
        from nas_kd.latency.device import open_device
        from nas_kd.latency.measured_file import measure_file, parse_shape

        shape = None if input_shape is None else parse_shape(input_shape)
        opened = open_device(device, on_wait=lambda text: typer.echo(f"note: {text}", err=True))
        opened.check()
        measured = measure_file(model, opened, batch_size, shape)
        if as_json:
            typer.echo(json.dumps(measured.to_json(), indent=2, allow_nan=False))
        else:
            print_measured(measured)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="any ONNX classifier")],
    config: Annotated[Path, typer.Argument(help="config.toml, whose data it is scored on")],
    split: Annotated[str, typer.Option(help="train | val | test")] = "test",
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="what the file expects: raw | unit (pixels in 0..1) | normalized (by mean and std of this config's "
            "training samples, not ImageNet's) [default: raw, or the teacher's]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    settings: Settings = None,
) -> None:
    """Score an ONNX file on a split: accuracy with its interval, recall by class, calibration error."""
    with exit_on_errors():
        import json

        from nas_kd.cli.evaluation_table import print_evaluation
        from nas_kd.commands.evaluate import checked_preprocessing
        from nas_kd.commands.evaluate import evaluate as score

        options = _load(config, {}, settings)
        result = score(model, options, split=split, preprocessing=checked_preprocessing(preprocessing))
        if as_json:
            typer.echo(json.dumps(result.to_json(), indent=1, allow_nan=False))
        else:
            print_evaluation(result)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="a file of torch.save: .pt, .pth, .ckpt, .bin")],
    out: Annotated[Path, typer.Option(help="the .safetensors file to write")],
    key: Annotated[str | None, typer.Option(help="where the weights are in it [default: the usual places]")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> None:
    """Convert a pickled checkpoint to safetensors, in a process that cannot do harm."""
    with exit_on_errors():
        from nas_kd.conversion.convert import convert_checkpoint, describe_converted

        typer.echo("\n".join(describe_converted(convert_checkpoint(checkpoint, out, key, force=force))))


@app.command(
    "device-agent",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def device_agent(context: typer.Context) -> None:
    """Measure on this machine for searches on another (see --help)."""
    from nas_kd.agent.command import main as serve

    raise typer.Exit(serve(context.args))


@app.command()
def init(file: Annotated[Path, typer.Argument(help="file to write; never overwritten")] = Path("config.toml")) -> None:
    """Write a config with every option, its default and what it means."""
    with exit_on_errors():
        from nas_kd.config.loading import commented_config
        from nas_kd.serialization import write_atomic

        if file.exists():
            raise InputError(f"{file}: exists already; choose another name")
        write_atomic(file, commented_config())
        typer.echo(f"wrote {file}; edit it, then: nas-kd search {file}")


@app.command("list")
def list_plugins(
    kind: Annotated[str, typer.Argument(help=LISTED)],
) -> None:
    """List what can be chosen; anything else is given as package.module:Name."""
    with exit_on_errors():
        from nas_kd.cli.device_tables import print_devices
        from nas_kd.cli.plugin_table import print_plugins
        from nas_kd.errors import unknown
        from nas_kd.plugins import REGISTRIES, available

        kinds = {_plural(k): k for k in REGISTRIES}
        if kind not in kinds:
            raise unknown("kind", kind, kinds)
        plugins = available(kinds[kind])
        if kind == "devices":
            print_devices(plugins)
        else:
            print_plugins(kinds[kind], plugins)


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def _load(
    config: Path | None,
    flags: dict[str, Any],
    settings: list[str] | None,
    ignore: list[str] | None = None,
    command: str = "",
    *,
    task: str | None = None,
) -> Any:
    from nas_kd.api.functions import read_config
    from nas_kd.config.loading import parse_override
    from nas_kd.config.unused import ignoring

    options = read_config(config, flags | dict(parse_override(s) for s in settings or []), task=task)
    return ignoring(options, ignore, command) if ignore else options


def main() -> None:
    """Entry point of the console script."""
    app()
