"""Changes of one place in a good input, drawn at random, by kind of input."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.mutated_inputs.good_inputs import SIDE

Random = np.random.Generator
Mutation = Callable[[Path, Random], str]

ODD_VALUES = (
    *("0", "-1", "1e9", "1e400", "nan", "inf", "0.5", "true", '""', '"x"', '"auto"', "[]", "[1]", "{}", "[0.1, 5.0]"),
    *('["soft_targets", "soft_targets"]', '["none"]', '["dkd"]', '"../x"', '"{x}"', "[[1]]", "1979-05-27", '"[red]"'),
)
OPTIONS = (
    *("data.train_rows", "data.test_rows", "data.val_share", "data.image_size", "data.augment.crop", "data.layout"),
    *("teacher.epochs", "teacher.features", "teacher.mean", "teacher.preprocessing", "space.name", "device.name"),
    *("chain.max_assistants", "chain.policy", "distill.epochs", "distill.batch_size", "distill.learning_rate"),
    *("distill.methods", "distill.temperature", "distill.strength", "distill.calibrate", "distill.weight_decay"),
    *("budget.max_latency_ms", "budget.max_size_kb", "budget.min_accuracy", "search.trials", "search.precisions"),
    *("search.workers", "search.seed", "search.sampler", "finalists.max", "finalists.seeds", "store.max_gb"),
)


def config_value(folder: Path, rng: Random) -> str:
    """Set one option to an odd value."""
    option, value = str(rng.choice(OPTIONS)), str(rng.choice(ODD_VALUES))
    section, _, key = option.rpartition(".")
    return _set(folder, section, key, value)


def _set(folder: Path, section: str, key: str, value: str) -> str:
    lines = (folder / "config.toml").read_text().splitlines()
    lines = [line for line in lines if not (line.startswith(f"{key} =") and section.count(".") == 0)]
    if f"[{section}]" in lines:
        lines.insert(lines.index(f"[{section}]") + 1, f"{key} = {value}")
    else:
        lines += [f"[{section}]", f"{key} = {value}"]
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    return f"{section}.{key} = {value}"


def config_line(folder: Path, rng: Random) -> str:
    """Leave a line of the config out, write it twice, or change a character of it."""
    lines = (folder / "config.toml").read_text().splitlines()
    at, act = int(rng.integers(len(lines))), int(rng.integers(3))
    line = lines[at]
    if act == 0:
        del lines[at]
    elif act == 1:
        lines.insert(at, line)
    elif line:
        place = int(rng.integers(len(line)))
        lines[at] = line[:place] + chr(int(rng.integers(32, 1000))) + line[place + 1 :]
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    return f"line {line!r} {('left out', 'twice', 'changed')[act]}"


def _bytes(name: str) -> Mutation:
    def mutation(folder: Path, rng: Random) -> str:
        """Change some bytes of a file, or cut it off."""
        paths = sorted(folder.glob(name))
        path = paths[int(rng.integers(len(paths)))]
        content = bytearray(path.read_bytes())
        if rng.random() < 0.2:
            content = content[: int(rng.integers(len(content)))]
            what = f"cut to {len(content)} bytes"
        else:
            count = int(rng.integers(1, 4))
            end = len(content) if rng.random() < 0.5 else min(len(content), 300)
            for place in rng.integers(end, size=count):
                content[place] = int(rng.integers(256))
            what = f"{count} bytes changed"
        path.write_bytes(bytes(content))
        return f"{path.name}: {what}"

    return mutation


def npz_arrays(folder: Path, rng: Random) -> str:
    """Change type, shape or values of an array."""
    arrays = dict(np.load(folder / "data.npz"))
    name = str(rng.choice(sorted(arrays)))
    array = arrays[name]
    act = str(rng.choice(["dtype", "shape", "value", "drop", "rename", "rows"]))
    if act == "dtype":
        kind = str(
            rng.choice(["float16", "float32", "float64", "int8", "int64", "bool", "complex64", "U3", "<M8[s]", ">f4"])
        )
        array, act = array.astype(kind), kind
    elif act == "shape":
        shapes = [(-1,), (len(array), -1), (1, *array.shape), (*array.shape, 1), array.shape[::-1]]
        array = array.reshape(shapes[int(rng.integers(len(shapes)))])
        act = f"shape {array.shape}"
    elif act == "value":
        array = array.astype(np.float32) if array.ndim > 1 else array.astype(np.int64)
        odd = [np.nan, np.inf, -1e30] if array.ndim > 1 else [-1, 3, 10**12]
        array.reshape(-1)[int(rng.integers(array.size))] = odd[int(rng.integers(3))]
    elif act == "rows":
        array = array[: int(rng.integers(0, 12))]
        act = f"{len(array)} rows"
    if act != "drop":
        arrays[f"{name}_" if act == "rename" else name] = array
    if act in ("drop", "rename"):
        del arrays[name]
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)
    return f"{name}: {act}"


def npz_header(folder: Path, rng: Random) -> str:
    """Write something else into the header of an array."""
    arrays = dict(np.load(folder / "data.npz"))
    name = str(rng.choice(sorted(arrays)))
    content = io.BytesIO()
    np.save(content, arrays[name], allow_pickle=False)
    raw = content.getvalue()
    changes = [
        (b"False", b"True "),
        (b"<", b">"),
        (b"|u1", b"|O8"),
        (b"i8", b"V8"),
        (b"(90", b"(99"),
        (b"shape", b"shapf"),
    ]
    before, after = changes[int(rng.integers(len(changes)))]
    with zipfile.ZipFile(folder / "data.npz", "w") as file:
        for other, array in arrays.items():
            body = io.BytesIO()
            np.save(body, array, allow_pickle=False)
            file.writestr(f"{other}.npy", raw.replace(before, after, 1) if other == name else body.getvalue())
    return f"{name}: header {before!r} -> {after!r}"


def picture(folder: Path, rng: Random) -> str:
    """Put something odd in place of a picture."""
    paths = sorted((folder / "pictures").rglob("*.*"))
    path = paths[int(rng.integers(len(paths)))]
    act = str(rng.choice(["mode", "size", "empty", "text", "remove", "dir", "link", "huge"]))
    if act == "mode":
        mode = str(rng.choice(["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "YCbCr"]))
        converted = Image.new(mode, (SIDE, SIDE)) if mode in ("I;16", "F") else Image.open(path).convert(mode)
        suffix = ".tif" if mode in ("F", "CMYK", "YCbCr", "I;16") else ".png"
        converted.save(path.with_suffix(suffix))
        act = mode
    elif act == "size":
        size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        Image.open(path).resize(size).save(path)
        act = f"size {size}"
    elif act in ("empty", "text"):
        path.write_bytes(b"" if act == "empty" else b"not a picture")
    elif act == "remove":
        path.unlink()
    elif act == "dir":
        path.unlink()
        path.mkdir()
    elif act == "link":
        path.unlink()
        path.symlink_to(str(rng.choice(["/etc/passwd", "missing.png", "..", paths[0].name])))
    else:
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 2**30, 2**30, 8, 2, 0, 0, 0, 0)
        )
    return f"{path.name}: {act}"


def parquet_table(folder: Path, rng: Random) -> str:
    """Change a column of a Parquet file."""
    name = str(rng.choice(["train", "test"]))
    table = pq.read_table(folder / f"{name}.parquet")
    act = str(
        rng.choice(["rename", "strings", "null", "floats", "no rows", "bad picture", "raw bytes", "twice", "negative"])
    )
    labels, images = table["label"].to_pylist(), table["image"].to_pylist()
    columns: dict[str, Any] = {"image": images, "label": labels}
    if act == "rename":
        columns = {
            str(rng.choice(["img", "Image", "x"])): images,
            str(rng.choice(["labels", "fine_label", "y"])): labels,
        }
    elif act == "strings":
        columns["label"] = [f"<b>{label}" for label in labels]
    elif act == "null":
        columns["label"] = [None, *labels[1:]]
    elif act == "floats":
        columns["label"] = [label + float(rng.choice([0.0, 0.5])) for label in labels]
    elif act == "no rows":
        columns = {"image": images[:0], "label": labels[:0]}
    elif act == "bad picture":
        columns["image"] = [{"bytes": b"x", "path": None}, *images[1:]]
    elif act == "raw bytes":
        columns["image"] = [i["bytes"] for i in images]
    elif act == "twice":
        columns["label2"] = labels
    else:
        columns["label"] = [-1, *labels[1:]]
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return f"{name}: {act}"


def weights(folder: Path, rng: Random) -> str:
    """Change a tensor's name, type, shape or values."""
    tensors = load_file(folder / "teacher.safetensors")
    name = str(rng.choice(sorted(tensors)))
    act = str(rng.choice(["prefix", "rename", "drop", "half", "double", "nan", "shape", "more"]))
    tensor = tensors[name]
    if act == "prefix":
        prefix = str(rng.choice(["module.", "_orig_mod.", "model.", "a.b."]))
        tensors = {prefix + key: value for key, value in tensors.items()}
    elif act in ("rename", "drop"):
        del tensors[name]
        tensors |= {f"{name}x": tensor} if act == "rename" else {}
    elif act in ("half", "double"):
        tensors = {key: value.half() if act == "half" else value.double() for key, value in tensors.items()}
    elif act == "nan":
        tensors[name] = torch.full_like(tensor, torch.nan)
    elif act == "shape":
        tensors[name] = tensor.reshape(-1)[:-1].clone()
    else:
        tensors["num_batches_tracked"] = torch.tensor(1)
    save_file(tensors, folder / "teacher.safetensors")
    return f"{name}: {act}"


def graph(folder: Path, rng: Random) -> str:
    """Change the graph of the ONNX teacher."""
    path = folder / "teacher.onnx"
    model = onnx.load(path)
    nodes, inputs = model.graph.node, model.graph.input[0].type.tensor_type
    act = str(
        rng.choice(
            ["op", "batch", "sides", "uint8", "double", "softmax", "two outputs", "opset", "weight", "order", "name"]
        )
    )
    if act == "op":
        nodes[int(rng.integers(len(nodes)))].op_type = str(rng.choice(["Relu", "Nothing", "Conv", "Identity", "Loop"]))
    elif act == "batch":
        inputs.shape.dim[0].dim_value = int(rng.integers(1, 5))
    elif act == "sides":
        for at in (2, 3):
            inputs.shape.dim[at].dim_param = "side"
    elif act in ("uint8", "double"):
        inputs.elem_type = TensorProto.UINT8 if act == "uint8" else TensorProto.DOUBLE
        nodes.insert(0, helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT))
        nodes[1].input[0] = "cast"
    elif act == "softmax":
        nodes[-1].output[0] = "before"
        nodes.append(helper.make_node("Softmax", ["before"], ["logits"], axis=1))
    elif act == "two outputs":
        model.graph.output.append(helper.make_tensor_value_info(nodes[0].output[0], TensorProto.FLOAT, None))
    elif act == "opset":
        model.opset_import[0].version = int(rng.choice([1, 7, 12, 99]))
    elif act == "weight":
        at = int(rng.integers(len(model.graph.initializer)))
        array = numpy_helper.to_array(model.graph.initializer[at])
        changed = array.reshape(-1)[:-1] if rng.random() < 0.5 else np.full_like(array, np.nan)
        model.graph.initializer[at].CopyFrom(numpy_helper.from_array(changed, model.graph.initializer[at].name))
    elif act == "order":
        nodes.insert(0, nodes.pop())
    else:
        model.graph.input[0].name = str(rng.choice(["", "x", "../x", "logits"]))
    path.write_bytes(model.SerializeToString())
    return act


MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "config": (config_value, config_value, config_line),
    "npz": (npz_arrays, npz_header, _bytes("data.npz")),
    "pictures": (picture, picture, _bytes("pictures/*/*.*")),
    "parquet": (parquet_table, _bytes("train.parquet")),
    "safetensors": (weights, _bytes("teacher.safetensors")),
    "onnx": (graph, _bytes("teacher.onnx")),
}
