"""The interface of packages of pretrained networks, as in `teacher.factory = "timm:resnet18"`; a file here adds one.

Such a collection is a package that a user may have installed. It builds networks and says what they expect of samples;
their weights come from a file, or from where the package keeps those that it has fetched. Nothing is downloaded here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nas_kd.errors import InputError, unknown
from nas_kd.plugins import available, load
from nas_kd.user_code import describe_error, unchanged_settings


@dataclass(frozen=True)
class CollectionNetwork:
    """A network as its package describes it.

    Attributes:
        module: the network, with weights that are not trained.
        mean: that it expects of pixels in 0..1, by channel; None: the package does not say.
        std: likewise.
        image_size: side, or height and width, that it was trained at; None: the package does not say.
    """

    module: nn.Module
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: tuple[int, ...] | None = None


class Collection(ABC):
    """One file in `nas_kd/models/collections/` with `PLUGIN = <instance>`.

    Attributes:
        name: what `teacher.factory` begins with, before the colon.
        summary: one line for `nas-kd list collections`.
        package: that is imported.
        install: what pip is given to install it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str]

    @abstractmethod
    def build(self, network: str, n_classes: int | None) -> CollectionNetwork:
        """Build a network without its weights.

        Args:
            network: its name in the collection.
            n_classes: of its head; None: as it was published.

        Raises:
            InputError: there is no such network, or the package cannot build it.
        """

    @abstractmethod
    def weights_places(self, network: str) -> list[Path]:
        """Where the package keeps the network's published weights once it has fetched them, best first.

        Raises:
            InputError: there is no such network.
        """

    @abstractmethod
    def fetch_command(self, network: str) -> str:
        """Python that makes the package fetch these weights."""

    def cached_weights(self, network: str) -> Path:
        """Find the network's weights among what the package has fetched: a safetensors file, else a pickle.

        Beside each pickle, what `nas-kd convert` makes of it is looked for, too.

        Args:
            network: its name in the collection.

        Raises:
            InputError: there are none; the message says how to get them.
        """
        places = self.weights_places(network)
        safe = [place.with_suffix(".safetensors") for place in places]
        for path in (*safe, *places):
            if path.is_file():
                return path
        looked_for = f" ({places[0]})" if places else ""
        raise InputError(
            f"teacher.factory: {self.name}:{network}: its weights are not here: give a file as teacher.weights, or "
            f"let the package fetch them once{looked_for}: python -c {self.fetch_command(network)!r}"
        )

    def require(self) -> Any:
        """Import the package.

        Raises:
            InputError: it is not installed, or cannot be imported; the message says what to install.
        """
        try:
            with unchanged_settings():
                return import_module(self.package)
        except Exception as error:  # an installation may be broken in any way
            raise InputError(
                f"teacher.factory = '{self.name}:...' needs the package {self.package}: pip install {self.install} "
                f"({describe_error(error)})"
            ) from error


def is_in_collection(factory: str) -> bool:
    """Whether a factory names a network of a collection, such as `timm:resnet18`, rather than a function.

    Args:
        factory: `teacher.factory`.
    """
    return factory.partition(":")[0] in available("collection")


def collection_of(factory: str) -> tuple[Collection, str]:
    """Find the collection that a factory names, and the network's name in it.

    Args:
        factory: `teacher.factory`, for which `is_in_collection` is true.

    Raises:
        InputError: no network is named.
    """
    prefix, _, network = factory.partition(":")
    if not network:
        raise InputError(f"teacher.factory: {factory!r} names no network: {prefix}:NAME")
    found: Collection = load("collection", prefix)
    return found, network


def fetched_weights(factory: str | None, weights: Path | None) -> Path | None:
    """Find the file of a teacher's weights where its package has fetched it; None: they come from elsewhere.

    Args:
        factory: `teacher.factory`.
        weights: `teacher.weights`.

    Raises:
        InputError: package, network or file are missing.
    """
    if factory is None or weights is not None or not is_in_collection(factory):
        return None
    collection, network = collection_of(factory)
    return collection.cached_weights(network)


def check_known(collection: Collection, network: str, names: Iterable[str]) -> None:
    """Refuse a network that a collection does not have.

    Raises:
        InputError: suggests the nearest name.
    """
    names = list(names)
    if network in names:
        return
    error = unknown(f"{collection.name} network", network, names)
    if "allowed: " not in str(error):
        raise error
    raise InputError(f"teacher.factory: {collection.package} has no network {network!r}, and none of a name like it")


def hub_checkpoint(url: str) -> Path:
    """Where `torch.hub` keeps the file of this address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
