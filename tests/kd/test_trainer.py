"""One training, stopped and resumed."""

from pathlib import Path

import torch

from tests.small_runs import (
    TrainingLog,
    distiller_of,
    open_context,
    plain_candidate,
    small_config,
    untrained_teacher,
)


def test_training_on_equals_training_through(tmp_path: Path) -> None:
    config = small_config(distill={"methods": ["soft_targets"], "epochs": 4})
    weights: list[dict[str, torch.Tensor]] = []
    epochs: list[int] = []
    for name, stops in (("on", [1, 2, 4]), ("through", [4])):
        context = open_context(config, tmp_path / name)
        candidate = plain_candidate(context.space.size_ladder(6)[1], "soft_targets")
        for until in stops:
            distiller = distiller_of(context, [untrained_teacher(context, 7)])
            log = TrainingLog(distiller)
            trained = distiller.distill(candidate, 0, 4, until=until)
            epochs += log.epochs
        weights.append(trained.model.state_dict())
    assert epochs == [1, 1, 2, 4]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
