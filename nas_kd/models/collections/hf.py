"""Image classifiers of transformers: `hf:OWNER/NAME` as in Hugging Face's cache, or `hf:FOLDER`."""

import json
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError
from nas_kd.models.collections.base import Collection, CollectionNetwork
from nas_kd.models.collections.hub_cache import hub_files

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


class HuggingFace(Collection):
    """Networks by `AutoModelForImageClassification`; what they expect is in their preprocessor's configuration."""

    name, package, install = "hf", "transformers", "transformers"
    summary = "hf:OWNER/NAME or hf:FOLDER, an image classifier of the package transformers"

    def build(self, network: str, n_classes: int | None) -> CollectionNetwork:
        """Build a network without its weights; `n_classes`: None: as published."""
        transformers = self.require()
        path = _files(network, [CONFIG])[0]
        if not path.is_file():
            raise InputError(
                f"teacher.factory: hf:{network}: its {CONFIG} is not here: give a folder, hf:FOLDER, or let the "
                f"package fetch it once: python -c {self.fetch_command(network)!r}"
            )
        labels = {} if n_classes is None else {"num_labels": n_classes}
        config: Any = transformers.AutoConfig.from_pretrained(str(path.parent), local_files_only=True, **labels)
        module = transformers.AutoModelForImageClassification.from_config(config)
        said = _read(_files(network, [PREPROCESSOR])[0])
        normalizes = said.get("do_normalize", True)
        return CollectionNetwork(
            module,
            mean=_floats(said.get("image_mean")) if normalizes else None,
            std=_floats(said.get("image_std")) if normalizes else None,
            image_size=_sides(said.get("crop_size") or said.get("size")),
        )

    def weights_places(self, network: str) -> list[Path]:
        """The folder, or Hugging Face's cache."""
        self.require()
        return _files(network, ["model.safetensors", "pytorch_model.bin"])

    def fetch_command(self, network: str) -> str:
        """Python that makes transformers fetch network and weights."""
        classes = ("AutoModelForImageClassification", "AutoImageProcessor")
        return "; ".join(["import transformers as t", *(f"t.{c}.from_pretrained('{network}')" for c in classes)])


def _files(network: str, names: list[str]) -> list[Path]:
    folder = Path(network).expanduser()
    if folder.is_dir():
        return [folder / name for name in names]
    if folder.is_absolute() or network.startswith("."):
        raise InputError(f"teacher.factory: hf:{network}: no such folder")
    return hub_files(network, names)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _floats(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def _sides(size: Any) -> tuple[int, ...] | None:
    """Height and width; of a shortest edge, that of a square."""
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    return None if edge is None else (int(edge), int(edge))


PLUGIN = HuggingFace()
