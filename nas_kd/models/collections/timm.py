"""PyTorch image models: `timm:NAME`, or `timm:NAME.TAG` for one of several sets of weights."""

from pathlib import Path
from typing import Any

from nas_kd.models.collections.base import Collection, CollectionNetwork, check_known, hub_checkpoint
from nas_kd.models.collections.hub_cache import hub_files


class Timm(Collection):
    """Networks by `timm.create_model`; what they expect is in their `pretrained_cfg`."""

    name, package, install = "timm", "timm", "timm"
    summary = "timm:NAME, an image classifier of the package timm"

    def build(self, network: str, n_classes: int | None) -> CollectionNetwork:
        """Build a network without its weights; `n_classes`: None: as published."""
        timm = self.require()
        check_known(self, network.partition(".")[0], timm.list_models())
        classes = {} if n_classes is None else {"num_classes": n_classes}
        module = timm.create_model(network, pretrained=False, **classes)
        config: dict[str, Any] = dict(getattr(module, "pretrained_cfg", None) or {})
        size = config.get("input_size")
        return CollectionNetwork(
            module,
            mean=_floats(config.get("mean")),
            std=_floats(config.get("std")),
            image_size=None if size is None else tuple(size[1:]),
        )

    def weights_places(self, network: str) -> list[Path]:
        """Hugging Face's cache, then that of torch.hub, which older releases of timm use."""
        timm = self.require()
        check_known(self, network.partition(".")[0], timm.list_models())
        config: Any = timm.get_pretrained_cfg(network)
        repository, url = getattr(config, "hf_hub_id", None), getattr(config, "url", None)
        found = hub_files(repository, ["model.safetensors", "pytorch_model.bin"]) if repository else []
        return [*found, *([hub_checkpoint(url)] if url else [])]

    def fetch_command(self, network: str) -> str:
        """Python that makes timm fetch these weights."""
        return f"import timm; timm.create_model('{network}', pretrained=True)"


def _floats(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


PLUGIN = Timm()
