"""Files in Hugging Face's cache: looked for, never fetched."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError


def hub_files(repository: str, names: Sequence[str]) -> list[Path]:
    """Where the cache has files of a repository, in the order of their names; those that are missing are named, too.

    Args:
        repository: owner and name, such as `timm/resnet18.a1_in1k`.
        names: of files in it.

    Raises:
        InputError: the package huggingface_hub is missing, or this is no name of a repository.
    """
    try:
        hub: Any = import_module("huggingface_hub")
        cache = Path(hub.constants.HF_HUB_CACHE)
        folder = hub.file_download.repo_folder_name(repo_id=repository, repo_type="model")
        found = [hub.try_to_load_from_cache(repository, name) for name in names]
    except ImportError as error:
        raise InputError(f"teacher.factory: {repository}: pip install huggingface_hub ({error})") from error
    except ValueError as error:  # HFValidationError
        raise InputError(f"teacher.factory: hf:{repository}: neither a folder nor OWNER/NAME ({error})") from error
    missing = cache / folder / "snapshots"
    return [Path(path) if isinstance(path, str) else missing / name for path, name in zip(found, names, strict=True)]
