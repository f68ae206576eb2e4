"""The search, from a config to a verified winner: read `search` first."""

import time
from contextlib import closing
from pathlib import Path

from nas_kd.commands.inputs import INPUTS, inputs_of, require_same_inputs
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search_steps import Search
from nas_kd.commands.worker import TARGET
from nas_kd.commands.write_winner import write_results
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.context.run_folder import RunFolder, locked, write_environment
from nas_kd.context.run_log import LoggedCallback, run_log
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import BudgetError
from nas_kd.kd.baselines.base import load_baseline
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder, note_start
from nas_kd.kd.own_space import with_own_space
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.kd.usable_methods import with_usable_methods
from nas_kd.latency.environment import describe_differences
from nas_kd.nas.gate import Gate
from nas_kd.nas.samplers.base import load_sampler
from nas_kd.nas.study import RunStudy
from nas_kd.nas.supernet.student_friendly import prepare_student_friendly
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.plugins import remembered
from nas_kd.results.fronts import describe_closest_finalists, winner
from nas_kd.results.run_record import DeviceRecord, RunRecord
from nas_kd.store.size_limit import remove_leftovers


def search(config: SearchConfig, run_dir: Path, callback: Callback | None = None) -> RunRecord:
    """Search for students within the budget; a folder that holds an unfinished run is resumed.

    Args:
        config: of the run.
        run_dir: where everything is kept.
        callback: receives what happens.

    Raises:
        InputError: config, data, teacher or folder are not usable.
        BudgetError: no candidate can meet the budget, or no finalist does; the run's record says which come closest.
    """
    _check_plugins(config)
    config = checked_config(config)
    folder, callback = RunFolder(run_dir), LoggedCallback(callback or Callback())
    with locked(folder, config) as resumed, run_log(folder):
        callback.on_start(str(run_dir), resumed)
        remove_leftovers(folder.store)
        with closing(_open_pool(config, folder, callback)) as pool:
            context = RunContext.prepare(config, folder, callback)
            with training_threads(context.threads), closing(_open(context, pool)) as run:
                if run.is_finished:
                    callback.on_note("this run is finished; to search on, choose another run folder")
                else:
                    run.require_reachable()
                    run.choose_recipe()
                    run.search()
                    finalists = run.train_finalists()
                    run.read_test_once(finalists, run.compress_teacher())
        record = read_run(folder)
        write_results(folder, record)
        callback.on_finish(record, record.finalists)
        _require_winner(record, config.budget)
        return record


def _require_winner(run: RunRecord, budget: Budget) -> None:
    if run.finalists and winner(run.finalists, budget) is None:
        nearest = describe_closest_finalists(run.finalists, budget)
        raise BudgetError(f"no finalist meets the budget (their fronts are in the report); closest: {nearest}")


def _open_pool(config: SearchConfig, folder: RunFolder, callback: Callback) -> WorkerPool:
    options, objects = config.search, remembered(config.model_dump())
    run_dir = str(folder.path.resolve())
    return WorkerPool(options.executor, TARGET, run_dir, options.workers, callback, objects=objects)


def _open(context: RunContext, pool: WorkerPool) -> "Search":
    """Prepare the teacher, then open the study: until it is there, nothing ties the folder to its config."""
    folder, callback = context.folder, context.callback
    inputs = inputs_of(context)
    require_same_inputs(folder, inputs)
    callback.on_stage("preparing the teacher" if len(context.config.teacher) == 1 else "preparing the teachers")
    started = time.monotonic()
    teachers = prepare_teachers(context, Gate(context, NetworkBuilder.for_run(context), pool.reserve).of_file)
    context = with_own_space(context, [t.teacher for t in teachers])
    context = with_usable_methods(context, [t.teaching for t in teachers])
    context, teachers = prepare_student_friendly(context, teachers)
    builder = NetworkBuilder.for_run(context)
    note_start(builder, callback)
    gate = Gate(context, builder, pool.reserve)
    distiller = Distiller.for_run(context, builder, [t.teaching for t in teachers])
    config, smallest, options = context.config, builder.smallest(), context.config.distill
    distiller.check((*options.methods, config.chain.method), smallest, config.search.precisions, options.progression)
    name = config.name or folder.path.resolve().name
    study = RunStudy(folder, name, config.budget, context.recipe.epochs, callback.on_note)
    if study.teacher is None:
        study.save("teacher", teachers[0].record)
        for place, other in enumerate(teachers[1:], start=1):
            study.save(f"teacher/{place:03d}", other.record)
        study.add_seconds("teacher", time.monotonic() - started)
    device = context.device.describe(context.batch_size)
    if (before := study.load("device", DeviceRecord)) is not None:
        _note_changes(callback, before, device)
    study.save(INPUTS, inputs)
    study.save("dataset", dataset_record(context.data))
    study.save("metric", context.metric)
    study.save("device", device)
    write_environment(folder, dict(device.environment), context.threads)
    return Search(context, study, distiller, gate, teachers=teachers, pool=pool)


def _check_plugins(config: SearchConfig) -> None:
    """Refuse objects of the wrong kind before anything is read or trained.

    Raises:
        InputError: says which, and what it must be.
    """
    load_sampler(config.search.sampler)
    for policy in config.chain.policy:
        load_policy(policy)
    for baseline in config.finalists.baselines:
        load_baseline(baseline)


def _note_changes(callback: Callback, before: DeviceRecord, now: DeviceRecord) -> None:
    """Note how the device differs from when the run was last worked on; earlier measurements stay as they are."""
    facts = ({"batch_size": record.batch_size, **record.environment} for record in (before, now))
    if changes := describe_differences(*facts):
        callback.on_note(f"the device is not what it was when this run was worked on last: {changes}")
