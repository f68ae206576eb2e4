"""The head for boxes: the contract of spaces, its levels, what it says at first, and its file."""

import numpy as np
import onnxruntime
import pytest
import torch

from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.heads.base import HeadInputs, MapShape, load_head
from nas_kd.models.heads.detection import _sources
from nas_kd.models.search_space import load_space
from nas_kd.results.boxes import REACH
from nas_kd.tasks.boxes.anchors import anchors_of, grid_sizes, pyramid_strides
from nas_kd.testing import check_space


@pytest.mark.parametrize("name", ["resnet+detection"])
def test_spaces_with_the_head_keep_the_contract(name: str) -> None:
    check_space(load_space(name), input_shapes=((3, 32, 32), (1, 32, 38)), task="detection")


def test_levels_follow_from_the_size_of_pictures() -> None:
    assert [pyramid_strides(side, 300) for side in (95, 96, 223, 224)] == [(4, 8), (4, 8, 16), (4, 8, 16), (8, 16, 32)]
    assert grid_sizes(32, 38) == [(8, 10), (4, 5)]
    assert len(anchors_of(32, 38)) == 100


@pytest.mark.parametrize("maps", [((8, 32, 38), (16, 16, 19)), ((8, 16, 19), (8, 8, 10), (16, 4, 5)), ((8, 4, 5),)])
def test_any_maps_are_brought_to_the_grids(maps: tuple[tuple[int, int, int], ...]) -> None:
    shapes = tuple(MapShape(*m) for m in maps)
    head = load_head("detection").module({"width": 8, "depth": 2}, HeadInputs(shapes, (32, 38), 3)).eval()
    with torch.no_grad():
        found = head([torch.randn(2, *m) for m in maps])
    assert found.shape == (2, 100, 7)
    at_first = found.sigmoid().mean(dim=(0, 1))
    assert at_first[:3].tolist() == pytest.approx([0.01] * 3, rel=0.3)
    assert (at_first[3:] * REACH).tolist() == pytest.approx([1.5] * 4, rel=0.1)


def test_layers_are_built_without_memory() -> None:
    """As once-for-all does."""
    with torch.device("meta"):
        head = load_head("detection").module({"width": 8, "depth": 1}, HeadInputs((MapShape(8, 4, 5),), (32, 38), 3))
    assert all(p.is_meta for p in head.parameters())


def test_the_file_says_what_the_network_says() -> None:
    space = load_space("resnet+detection")
    network = space.build(space.size_ladder(2)[0], (3, 32, 38), 3).eval()
    x = torch.randn(2, 3, 32, 38)
    session = onnxruntime.InferenceSession(export_onnx(network, (3, 32, 38), axes=3))
    with torch.no_grad():
        expected = network(x).numpy()
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("n_maps", "strides", "sources"),
    [
        (1, (4, 8), [0, 0]),
        (2, (4, 8), [0, 1]),
        (3, (4, 8), [1, 2]),
        (5, (4, 8, 16), [1, 2, 4]),
        (5, (8, 16, 32), [2, 3, 4]),
    ],
)
def test_levels_read_maps_of_their_resolution(n_maps: int, strides: tuple[int, ...], sources: list[int]) -> None:
    assert _sources(n_maps, strides) == sources
