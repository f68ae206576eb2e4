"""Spaces cut out of networks of many kinds: what can be cut, how long it takes, and whether cuts are exact.

    python -m benchmarks.derivation [--clones DIR] [--installed] [--only NAME,NAME] [--out reports/derivation]

Networks of this project's tests; with --clones those of public collections (`benchmarks/public_networks`); with
--installed those of timm, torchvision and transformers, in an environment that has them. All with random weights, whose
norms were given values that training might have left. Seconds are of the processor. What is in OUT/results.jsonl is not
done again.
"""

import argparse
import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import markdown_table
from benchmarks.public_networks.networks import COLLECTIONS
from nas_kd.errors import InputError
from nas_kd.export.network_costs import count_macs
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import verify
from nas_kd.models.derived.derived_space import DerivedSpace
from tests.models.derived.networks import NETWORKS, example_of, trained_like

OUT = Path("reports/derivation")
HALF = 0.5  # of the multiply-adds, at least, are to be removable
Make = Callable[[], nn.Module]
INSTALLED = {
    "timm": "vit_tiny_patch16_224 deit3_small_patch16_224 resnet18 mobilenetv3_small_100 efficientnet_lite0 repvgg_a0",
    "torchvision": "resnet18 mobilenet_v2 mobilenet_v3_small squeezenet1_1 shufflenet_v2_x0_5 vgg11_bn vit_b_16 swin_t",
}


def networks(clones: Path | None, *, installed: bool) -> Iterator[tuple[str, Make, tuple[int, ...]]]:
    """Name, how it is made, and the shape of a sample."""
    for name, (make, shape) in NETWORKS.items():
        yield f"tests: {name}", make, shape
    for collection, of in COLLECTIONS.items() if clones else ():
        assert clones is not None
        if not (clones / of.path).exists():
            continue
        for name, expression in of.networks.items():
            yield f"{collection}: {name}", _of_collection(clones / of.path, of.imports, expression), (3, 32, 32)
    for package, names in INSTALLED.items() if installed else ():
        for name in names.split():
            yield f"{package}: {name}", _of_package(package, name), (3, 64, 64) if "224" not in name else (3, 224, 224)


def _of_collection(path: Path, imports: str, expression: str) -> Make:
    def make() -> nn.Module:
        sys.path.insert(0, str(path.resolve()))
        for module in [name for name in sys.modules if name.partition(".")[0] in {"models", "cifar"}]:
            del sys.modules[module]  # of another collection
        names: dict[str, Any] = {}
        exec(imports, names)  # of the benchmark's own table
        return eval(expression, names)  # type: ignore[no-any-return]

    return make


def _of_package(package: str, name: str) -> Make:
    def make() -> nn.Module:
        if package == "timm":
            return importlib.import_module("timm").create_model(name, num_classes=10)  # type: ignore[no-any-return]
        return importlib.import_module("torchvision.models").get_model(name, num_classes=10)  # type: ignore[no-any-return]

    return make


class First(nn.Module):
    """A network that returns its logits alone, of a tuple that begins with them."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on x (B, ...): logits (B, C)."""
        return self.body(x)[0]  # type: ignore[no-any-return]


def figures(make: Make, shape: tuple[int, ...]) -> dict[str, Any]:
    """Derive a space, and judge its smallest and middle students."""
    torch.manual_seed(0)
    x, network = example_of(shape), trained_like(make())
    if not isinstance(network(x[:2]), Tensor):
        network = First(network)  # as teachers are that return more than logits
    started = time.process_time()
    try:
        space = DerivedSpace(network, x)
    except InputError as error:
        return {"refused": str(error)[:200], "seconds": round(time.process_time() - started, 2)}
    seconds = time.process_time() - started
    smallest, middle, largest = space.size_ladder(3)

    def build(architecture: Any) -> nn.Module:
        return space.build(architecture, shape, space.n_classes or 0).eval()

    started = time.process_time()
    cut = build(middle)
    build_s = time.process_time() - started
    whole_macs = count_macs(build(largest), shape)
    return {
        "seconds": round(seconds, 2),
        "build_seconds": round(build_s, 3),
        "weights": sum(p.numel() for p in network.parameters()),
        "dimensions": len(space.cuts),
        "students": space.cardinality(),
        "frozen": {layer: reason[:80] for layer, reason in space.frozen.items()},
        "fewest_macs": round(count_macs(build(smallest), shape) / whole_macs, 4),
        "uncut_difference": _difference(build(largest), network, x),
        "onnx_difference": _onnx_difference(cut, shape),
    }


def _difference(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        first, second = a(x), b(x)
    return float((first - second).abs().max() / second.abs().max().clamp(min=1e-6))


def _onnx_difference(network: nn.Module, shape: tuple[int, ...]) -> float | str:
    if len(shape) == 1:
        return "token numbers"
    try:
        return verify(export_onnx(network, shape), network, example_of(shape, 8)).max_abs_difference
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:120]


def report(rows: list[dict[str, Any]]) -> str:
    """Counts, and a table of all networks."""
    good = [r for r in rows if r.get("fewest_macs", 1) <= HALF]
    derived = [r for r in rows if "refused" not in r]
    table = markdown_table(
        [
            "network",
            "weights",
            "dimensions",
            "fewest multiply-adds",
            "frozen groups",
            "derive s",
            "build s",
            "uncut",
            "ONNX",
        ],
        [_line(r) for r in rows],
    )
    return (
        f"# {(__doc__ or '').splitlines()[0]}\n\n{len(rows)} networks: {len(derived)} derive, {len(good)} of them with "
        "half of their multiply-adds or more removable. Differences: of uncut copies, as shares of the largest logit; "
        f"of a middle cut through ONNX Runtime, of its logits.\n\n{table}"
    )


def _line(row: dict[str, Any]) -> list[str]:
    if "refused" in row:
        return [row["network"], "", "", f"refused: {row['refused'][:90]}", "", f"{row['seconds']:.1f}", "", "", ""]
    onnx = row["onnx_difference"]
    return [
        row["network"],
        f"{row['weights']:,}",
        str(row["dimensions"]),
        f"{100 * row['fewest_macs']:.1f} %",
        str(len(row["frozen"]) - 1),
        f"{row['seconds']:.1f}",
        f"{row['build_seconds']:.2f}",
        f"{row['uncut_difference']:.0e}",
        onnx if isinstance(onnx, str) else f"{onnx:.0e}",
    ]


def main() -> int:
    """Try what is not done yet, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clones", type=Path)
    parser.add_argument("--installed", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {row["network"] for row in rows}
    for name, make, shape in networks(given.clones, installed=given.installed):
        if name in done or (given.only and name not in given.only.split(",")):
            continue
        try:
            found = figures(make, shape)
        except (ImportError, FileNotFoundError) as error:
            print(name, "is not there:", error, flush=True)
            continue
        rows.append({"network": name, **found})
        with results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    (given.out / "report.md").write_text(report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
