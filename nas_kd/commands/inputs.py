"""What a run was begun with, by content: files may be moved, but a run goes on only with the same ones."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from nas_kd.config.loading import path_options
from nas_kd.config.options import SearchConfig
from nas_kd.config.teaching_options import checkpoint_files
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import InputError
from nas_kd.export.onnx_file import read_whole
from nas_kd.models.collections.base import fetched_weights
from nas_kd.nas.database import study_attributes
from nas_kd.results.trial_record import Record
from nas_kd.serialization import fingerprint, sha256

INPUTS = "inputs"  # attribute of the study
BY_SAMPLES = "data"  # all files of this section count by the samples that are read from them
NOT_READ = "plugin_dir"


class InputsRecord(Record):
    """What a run was begun with.

    Attributes:
        identities: sha256 by dotted option; of "data": of all samples and labels.
    """

    identities: Mapping[str, str] = {}


def inputs_of(context: RunContext) -> InputsRecord:
    """Identify data and files of a run by their content; a file that is not there is left to what reads it."""
    return InputsRecord(identities={BY_SAMPLES: context.data.training_key, **files_of(context.config)})


def files_of(config: SearchConfig) -> dict[str, str]:
    """Identify the files that a config names, those of the data left out: sha256 by dotted option."""
    paths = {key: path for key, path in path_options(config).items() if key.partition(".")[0] != BY_SAMPLES}
    found = {key: _identity(path) for key, path in paths.items() if key != NOT_READ and path.is_file()}
    if checkpoints := [path for path in checkpoint_files(config.teacher) if path.is_file()]:
        found["teacher.checkpoints"] = fingerprint([_identity(path) for path in checkpoints])
    if fetched := [path for t in config.teacher if (path := fetched_weights(t.factory, t.weights)) is not None]:
        found["teacher.factory"] = fingerprint([_identity(path) for path in fetched])
    return found


def _identity(path: Path) -> str:
    """Sha256 of a file; of an ONNX file together with the weights that it keeps in files beside it."""
    if path.suffix == ".onnx":
        return sha256(read_whole(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same_inputs(folder: RunFolder, inputs: InputsRecord) -> None:
    """Refuse to go on with other data or files than a run was begun with, wherever they are.

    Args:
        folder: of the run, which may not have begun.
        inputs: of today.

    Raises:
        InputError: names the options whose content differs.
    """
    attributes = study_attributes(folder)
    before = dict(InputsRecord.model_validate(attributes.get(INPUTS, {})).identities)
    if not before and "dataset" in attributes:
        before = {BY_SAMPLES: attributes["dataset"]["key"]}  # of a run that was begun before inputs were recorded
    if differing := sorted(k for k, identity in inputs.identities.items() if before.get(k, identity) != identity):
        what = [f"{key} (other samples or labels)" if key == BY_SAMPLES else key for key in differing]
        raise InputError(
            f"{folder.path}: the content of {', '.join(what)} is not what this run was begun with; "
            "use the same to resume it, or another --run-dir"
        )
