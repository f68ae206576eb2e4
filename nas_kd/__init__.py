"""nas-kd: search, distil and export small networks for a device budget.

The names below are imported when first used, so that `nas-kd --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_kd.api import distill, export_winner, load_run, search
    from nas_kd.config.options import Budget, SearchConfig

__all__ = ["Budget", "SearchConfig", "distill", "export_winner", "load_run", "search"]
_HOMES = {"Budget": "nas_kd.config.options", "SearchConfig": "nas_kd.config.options"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nas_kd' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "nas_kd.api")), name)
