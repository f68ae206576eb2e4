"""The process that reads a pickled checkpoint: weights only, with nothing to write to but the file it is given.

Started by path with `-I`; reads one line of JSON from standard input, and answers with one on standard output. The
checkpoint and the output are descriptors that are open already.
"""

import io
import json
import os
import pickle
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

GIB = 2**30
# Whatever checkpoints hold beside weights, of these packages, is replaced by an inert stand-in; nothing is imported.
INERT = (
    *("argparse.Namespace", "pathlib.", "datetime.", "types.SimpleNamespace", "collections.defaultdict", "enum."),
    *("numpy.", "omegaconf.", "lightning.", "pytorch_lightning.", "lightning_fabric.", "timm.", "easydict.", "yacs."),
    *("mmcv.", "mmengine.", "fvcore.", "detectron2.config.", "ml_collections.", "torch.optim.", "torch.torch_version."),
)


def main() -> None:
    """Convert the checkpoint that the job on standard input names."""
    job = json.loads(sys.stdin.readline())
    sys.path[:] = job["path"]
    here = Path(__file__).parent
    import torch  # noqa: PLC0415  # its place is known only now
    from safetensors.torch import save  # noqa: PLC0415

    sandbox, checkpoint = (runpy.run_path(str(here / name)) for name in ("sandbox.py", "checkpoint.py"))
    torch.set_num_threads(1)
    _rehearse(torch, save)
    memory, output = 4 * job["size"] + 2 * GIB, 2 * job["size"] + GIB
    sandbox["limit_resources"](memory, output, job["seconds"])
    version = sandbox["deny_files_and_network"]([*job["path"], sys.prefix, sys.base_prefix])
    try:
        answer = _converted(torch, save, checkpoint, job) | {"landlock": version}
    except MemoryError:
        answer = {"refused": f"needs more than {memory / 1e9:.0f} GB of memory"}
    except Exception as error:  # a file that was made to do harm may raise anything
        answer = {"refused": _reason(error)}
    print(json.dumps(answer))


def _rehearse(torch: Any, save: Any) -> None:
    """Import what saving and loading import, while files may still be opened."""
    content = io.BytesIO()
    torch.save({"a": torch.ones(1)}, content)
    content.seek(0)
    torch.serialization.get_unsafe_globals_in_checkpoint(content)
    content.seek(0)
    save(torch.load(content, weights_only=True, map_location="cpu"))


def _converted(torch: Any, save: Any, checkpoint: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    with os.fdopen(job["source"], "rb") as source:
        loaded = _loaded(torch, source)
    tensors, key, others, places = checkpoint["find_weights"](loaded, job["key"])
    prefix = checkpoint["shared_prefix"](list(tensors))
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    stored, tied = checkpoint["storable"](named)
    content = save(stored)
    with os.fdopen(job["out"], "wb") as out:
        out.write(content)
    return {
        "tensors": len(stored),
        "bytes": len(content),
        "key": key,
        "prefix": prefix,
        "tied": tied,
        "left_out": others,
        "places": places,
    }


def _loaded(torch: Any, source: Any) -> Any:
    names = []
    with suppress(ValueError, RuntimeError, pickle.UnpicklingError):  # a file of before torch 1.6, or none at all
        names = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    source.seek(0)
    if harmful := [name for name in names if not name.startswith(INERT)]:
        raise pickle.UnpicklingError(f"Unsupported global: {', '.join(sorted(harmful)[:3])}")
    stubs = [(type("Inert", (_Inert,), {}), name) for name in names]
    with torch.serialization.safe_globals(stubs):
        return torch.load(source, weights_only=True, map_location="cpu")


class _Inert:
    """Stands for an object that is not weights: takes whatever it is given, and does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    advice = (
        "in a program that you trust, load it and save only the weights: torch.save(model.state_dict(), 'weights.pt')"
    )
    if "Unsupported global:" in text:
        names = text.partition("Unsupported global:")[2].removeprefix(" GLOBAL ").strip().split(" was not an")[0]
        return f"holds Python objects ({names[:120]}), which could run any code, not only tensors; {advice}"
    if "TorchScript" in text:
        return f"is a TorchScript archive, a whole network; {advice}"
    if isinstance(error, pickle.UnpicklingError):
        return f"holds Python objects that could run any code, or is damaged; {advice}"
    if "allocate memory" in text:
        return "needs more memory than a checkpoint of its size should"
    if type(error).__name__ == "NoWeightsError":
        return text
    return f"cannot be read as a checkpoint of torch ({type(error).__name__}: {text[:120]})"


if __name__ == "__main__":
    main()
