"""What asking, deduplicating and telling cost a trial, on SQLite, while a study grows.

    python benchmarks/propose_cost.py [--trials 1000] [--sampler tpe] [--out reports/propose_cost/result.json]

Candidates are proposed, and told made-up results, by the code of a real search; nothing is trained. Claim: <= 60 ms a
trial at 1,000 trials.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nas_kd.config import Budget, SearchConfig, SearchSection
from nas_kd.config_file import dump_config
from nas_kd.data.prepare import load_dataset
from nas_kd.files import write_atomic
from nas_kd.pipeline.folder import RunFolder
from nas_kd.pipeline.networks import Builder, load_space
from nas_kd.pipeline.propose import Proposal, Proposer, propose
from nas_kd.pipeline.study import RunStudy
from nas_kd.record import Costs, Latency, RungRecord, TrialRecord

WINDOW = 100


def judged(proposal: Proposal, builder: Builder, rng: np.random.Generator) -> TrialRecord:
    """A record as a search would make it, with costs from the weights and a made-up accuracy."""
    student = proposal.candidate.student
    weights, macs = builder.parameters(student), builder.macs(student)
    p50 = 0.01 + macs * 2e-8
    accuracy = float(np.clip(0.5 + 0.05 * np.log(weights / 500) + rng.normal(0, 0.02), 0, 0.99))
    return TrialRecord(
        number=proposal.trial.number,
        id=proposal.candidate.id,
        candidate=proposal.candidate.to_json(),
        words=builder.words(student),
        fate="finished",
        within_budget=True,
        costs=Costs(
            size_bytes=4 * weights,
            latency_ms=Latency(p50=p50, p90=p50, low=p50, high=p50),
            parameters=weights,
            macs=macs,
        ),
        rungs=(RungRecord(epochs=1, val_accuracy=accuracy, seconds=0.0),),
        val_accuracy=accuracy,
    )


def measure(sampler: str, trials: int) -> list[float]:
    """Mean milliseconds a trial in each window of WINDOW trials."""
    config = SearchConfig(search=SearchSection.model_validate({"trials": trials, "sampler": sampler}))
    space = load_space("resnet")
    builder = Builder(load_dataset(config.data, 0), space)
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        write_atomic(folder.config, dump_config(config))
        study = RunStudy(folder, "benchmark", Budget(), full=1)
        proposer = Proposer(config, space, builder, 10**9)
        spent: list[float] = []
        for _ in range(trials):
            started = time.perf_counter()
            proposal = propose(study, proposer, config)
            if proposal is None:
                raise RuntimeError("the space is exhausted")
            asked = time.perf_counter()
            record = judged(proposal, builder, rng)
            judged_at = time.perf_counter()
            study.tell(record)
            spent.append((asked - started + time.perf_counter() - judged_at) * 1000)
        study.close()
    return [round(float(np.mean(spent[i : i + WINDOW])), 2) for i in range(0, trials, WINDOW)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", nargs="+", default=["tpe", "nsga2", "random"])
    parser.add_argument("--out", type=Path, default=Path("reports/propose_cost/result.json"))
    arguments = parser.parse_args()
    result = {}
    for sampler in arguments.sampler:
        result[sampler] = measure(sampler, arguments.trials)
        print(f"{sampler}: ms a trial by windows of {WINDOW}: {result[sampler]}", flush=True)
    write_atomic(arguments.out, json.dumps({"window": WINDOW, "ms_a_trial": result}, indent=1))


if __name__ == "__main__":
    main()
