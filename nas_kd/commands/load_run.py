"""Reads a run's record back from its study; nothing is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy

from nas_kd.config.loading import load_config
from nas_kd.context.run_folder import RunFolder, read_json
from nas_kd.errors import InputError
from nas_kd.nas.database import close_database, find_study, open_database, require_schema, trial_records
from nas_kd.nas.prefilter import prefilter_record
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.results.compression_record import BaselineRecord, CompressionRecord
from nas_kd.results.finalist_record import FinalistPlan, FinalistRecord
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.run_record import (
    CacheRecord,
    DatasetRecord,
    DeviceRecord,
    MetricRecord,
    OnceForAllRecord,
    RunRecord,
    TeacherRecord,
)
from nas_kd.results.trial_record import Record, TrialRecord

R = TypeVar("R", bound=Record)


def read_run(folder: RunFolder) -> RunRecord:
    """Read the whole run as far as it has come; nothing is written.

    Args:
        folder: of a run, finished or not.

    Raises:
        InputError: the folder is not a run's, its study cannot be read, or another version has written it.
    """
    folder.require_run()
    try:
        with optuna_silenced():
            storage = open_database(folder.study, writing=False)
            study = find_study(storage, folder.study)
            trials = study.get_trials(deepcopy=False)
            attributes = dict(study.user_attrs)
    except InputError:
        raise
    except (sqlalchemy.exc.SQLAlchemyError, KeyError, ValueError) as error:
        raise InputError(f"{folder.study}: cannot be read as a study: {error}") from error
    close_database(storage, written=False)
    require_schema(folder, attributes)
    config = load_config(folder.config)
    records = tuple(sorted(trial_records(trials, attributes), key=lambda r: r.number))
    environment = read_json(folder.environment)
    return RunRecord(
        name=study.study_name,
        run_dir=str(folder.path),
        state=attributes.get("state", "searching"),
        message=attributes.get("message"),
        config=_public(config.model_dump(exclude_none=True)),
        dataset=_maybe(attributes, "dataset", DatasetRecord),
        device=_maybe(attributes, "device", DeviceRecord),
        metric=_maybe(attributes, "metric", MetricRecord),
        teacher=_maybe(attributes, "teacher", TeacherRecord),
        other_teachers=tuple(
            TeacherRecord.model_validate(v) for k, v in sorted(attributes.items()) if k.startswith("teacher/")
        ),
        recipe=_maybe(attributes, "recipe", RecipeRecord),
        once_for_all=_maybe(attributes, "once_for_all", OnceForAllRecord),
        prefilter=prefilter_record(records, config.budget),
        trials=records,
        finalist_plan=_maybe(attributes, "finalist_plan", FinalistPlan),
        finalists=tuple(
            FinalistRecord.model_validate(v) for k, v in sorted(attributes.items()) if k.startswith("finalist/")
        ),
        baselines=tuple(
            BaselineRecord.model_validate(v) for k, v in sorted(attributes.items()) if k.startswith("baseline/")
        ),
        compression=_maybe(attributes, "compression", CompressionRecord),
        cache={
            k.removeprefix("cache/"): CacheRecord.model_validate(v)
            for k, v in attributes.items()
            if k.startswith("cache/")
        },
        environment=environment,
        seconds=_where_time_went(attributes, records),
        warnings=tuple(attributes.get("warnings", ())),
        command=environment.get("command", ""),
    )


def _public(value: Any) -> Any:
    """The config as a report may show it: of paths only the last part, which says what it is and not where it lies."""
    if isinstance(value, Mapping):
        return {k: _public(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_public(v) for v in value]
    return value.name if isinstance(value, Path) else value


def _maybe(attributes: Mapping[str, Any], name: str, kind: type[R]) -> R | None:
    return kind.model_validate(attributes[name]) if name in attributes else None


def _where_time_went(attributes: Mapping[str, Any], trials: tuple[TrialRecord, ...]) -> dict[str, float]:
    seconds: dict[str, float] = dict(attributes.get("seconds", {}))
    for trial in trials:
        for what, spent in trial.seconds.items():
            seconds[what] = seconds.get(what, 0.0) + spent
    return seconds
