"""nas-kd: search, distill and export small networks for a device budget.

A search proposes student architectures and chains of teacher assistants, distills every candidate that can meet the
budget, and reports Pareto fronts of accuracy against size and against measured ONNX Runtime latency::

    import nas_kd

    budget = nas_kd.Budget(max_latency_ms=0.5, max_size_kb=100)
    run = nas_kd.search(teacher=net, data=(x, y), space="mobilenet", budget=budget, trials=60)
    run.winner.export("student.onnx")
    student = nas_kd.distill(student=small, teacher=net, train=(x, y), val=(x_val, y_val), epochs=30)

The names below are imported when they are first used, so that `import nas_kd` and `nas-kd --help` need not wait for
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_kd.api.functions import load_run, search
    from nas_kd.api.run import Finalist, Run
    from nas_kd.commands.distill_modules import distill
    from nas_kd.commands.evaluate import evaluate
    from nas_kd.commands.write_winner import export_winner
    from nas_kd.config.options import Budget, SearchConfig
    from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
    from nas_kd.errors import BudgetError, CallbackError, InputError, TrialError
    from nas_kd.latency.device_profile import DeviceProfile
    from nas_kd.methods.base import Method
    from nas_kd.models.derived.derived_space import DerivedSpace
    from nas_kd.models.grid import Dimension, GridSpace
    from nas_kd.tasks.base import Task

    __version__: str

_HOMES = {
    "Budget": "nas_kd.config.options",
    "BudgetError": "nas_kd.errors",
    "Callback": "nas_kd.context.callbacks",
    "CallbackError": "nas_kd.errors",
    "DeviceProfile": "nas_kd.latency.device_profile",
    "DerivedSpace": "nas_kd.models.derived.derived_space",
    "Dimension": "nas_kd.models.grid",
    "EpochEnd": "nas_kd.context.callbacks",
    "Finalist": "nas_kd.api.run",
    "GridSpace": "nas_kd.models.grid",
    "InputError": "nas_kd.errors",
    "Method": "nas_kd.methods.base",
    "Run": "nas_kd.api.run",
    "SearchConfig": "nas_kd.config.options",
    "StopRun": "nas_kd.context.callbacks",
    "Task": "nas_kd.tasks.base",
    "TrialError": "nas_kd.errors",
    "distill": "nas_kd.commands.distill_modules",
    "evaluate": "nas_kd.commands.evaluate",
    "export_winner": "nas_kd.commands.write_winner",
    "load_run": "nas_kd.api.functions",
    "search": "nas_kd.api.functions",
}
__all__ = [
    "Budget",
    "BudgetError",
    "Callback",
    "CallbackError",
    "DerivedSpace",
    "DeviceProfile",
    "Dimension",
    "EpochEnd",
    "Finalist",
    "GridSpace",
    "InputError",
    "Method",
    "Run",
    "SearchConfig",
    "StopRun",
    "Task",
    "TrialError",
    "distill",
    "evaluate",
    "export_winner",
    "load_run",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("nas-kd")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'nas_kd' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})
