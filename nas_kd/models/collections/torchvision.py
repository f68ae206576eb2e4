"""torchvision's classifiers: `torchvision:NAME`. Their published weights are pickles, to be converted once."""

from pathlib import Path
from typing import Any

from nas_kd.models.collections.base import Collection, CollectionNetwork, check_known, hub_checkpoint


class Torchvision(Collection):
    """Networks by `torchvision.models.get_model`; what they expect is in the transforms of their default weights."""

    name, package, install = "torchvision", "torchvision", "torchvision"
    summary = "torchvision:NAME, an image classifier of the package torchvision"

    def build(self, network: str, n_classes: int | None) -> CollectionNetwork:
        """Build a network without its weights; `n_classes`: None: as published."""
        models = self._models(network)
        classes = {} if n_classes is None else {"num_classes": n_classes}
        module = models.get_model(network, weights=None, **classes)
        steps: Any = models.get_model_weights(network).DEFAULT.transforms()
        return CollectionNetwork(
            module, mean=tuple(steps.mean), std=tuple(steps.std), image_size=tuple(steps.crop_size)
        )

    def weights_places(self, network: str) -> list[Path]:
        """Folder in which torch.hub keeps what it has fetched."""
        weights: Any = self._models(network).get_model_weights(network).DEFAULT
        return [hub_checkpoint(weights.url)]

    def fetch_command(self, network: str) -> str:
        """Python that makes torchvision fetch these weights."""
        return f"import torchvision; torchvision.models.get_model('{network}', weights='DEFAULT')"

    def _models(self, network: str) -> Any:
        models: Any = self.require().models
        check_known(self, network, models.list_models(module=models))  # of classifiers alone
        return models


PLUGIN = Torchvision()
