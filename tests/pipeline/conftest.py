"""Small real runs on the digits."""

from pathlib import Path

import pytest

from nas_kd.api import load_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.results.records import RunRecord

SMALL = {
    "name": "small",
    "data": {"source": "digits", "augment": {"crop": 0}},
    "teacher": {
        "space": "resnet",
        "epochs": 12,
        "architecture": {
            "stem_stride": 2,
            "width_1": 16,
            "depth_1": 1,
            "kernel_1": 3,
            "width_2": 24,
            "depth_2": 1,
            "kernel_2": 3,
            "width_3": 32,
            "depth_3": 1,
            "kernel_3": 3,
        },
    },
    "chain": {"assistant_sizes": 3},
    "distill": {"methods": ["soft_targets", "similarity", "none"], "epochs": 4, "batch_size": 64},
    "budget": {"max_latency_ms": 5.0, "max_size_kb": 60},
    "search": {"trials": 7, "rungs": 2, "reduction": 2, "rung_steps": 1},
    "finalists": {"max": 2, "seeds": 2, "max_control_epochs": 1.5},
    "engine": {"threads": 1},
}


def small_config(**sections: dict[str, object]) -> SearchConfig:
    """`SMALL` with some options replaced."""
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in SMALL.items()}
    for name, options in sections.items():
        section = merged.setdefault(name, {})
        assert isinstance(section, dict)
        section.update(options)
    return SearchConfig.model_validate(merged)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small run."""
    folder: Path = tmp_path_factory.mktemp("runs") / "small"
    search(small_config(), folder)
    return folder


@pytest.fixture(scope="session")
def finished(run_dir: Path) -> RunRecord:
    """What is known of it."""
    return load_run(run_dir)
