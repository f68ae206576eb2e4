"""Methods on features and relations between a convolutional network and a transformer, in both roles."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.methods.base import Method
from nas_kd.methods.feature.alignment import paired_stages, pool_to_smaller
from nas_kd.testing.toy_training import MIXED, Pair, ToySettings, start
from nas_kd.testing.training_rules import SHAPE, graph_of, untouched_file

from .conftest import MAKERS
from .test_feature import attached, pair, value

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = (
    "fitnet", "attention_transfer", "afd", "fsp", "channel_wise", "similarity", "irg", "crd", "rkd",
    "adaptive_teachers",
)  # fmt: skip
POSITIONS = ("attention_transfer", "afd", "channel_wise")
each_pair = pytest.mark.parametrize("families", MIXED, ids=" of ".join)


@pytest.mark.parametrize("name", METHODS)
@each_pair
def test_the_terms_alone_teach_every_layer_behind_the_last_that_is_read(name: str, families: Pair) -> None:
    toy = start(MAKERS[name](None, 1.0), ToySettings(pair=families, calibrated=False))
    toy.method.ce_weight = 0.0
    before = {k: v.clone() for k, v in toy.student.named_parameters()}
    toy.run()
    moved = {k for k, v in toy.student.named_parameters() if not torch.equal(v, before[k])}
    first = "body.stem" if families[0] == "residual" else "body.embed"
    assert any(k.startswith(first) for k in moved)
    assert all(np.isfinite(v) for v in toy.training.losses.values())


@pytest.mark.parametrize("name", METHODS)
@each_pair
def test_adapters_stay_out_of_the_file(name: str, families: Pair) -> None:
    toy = start(MAKERS[name](None, 1.0), ToySettings(pair=families, calibrated=False)).run(until=1)
    graph, size = untouched_file(families[0])
    content = export_onnx(toy.deployable[0], SHAPE)
    assert (graph_of(content), len(content)) == (graph, size)


def as_map(tokens: Tensor, extra: int) -> Tensor:
    """Patch (i, j) of a grid is token extra + i n + j."""
    b, t, d = tokens.shape
    side = round((t - extra) ** 0.5)
    out = tokens.new_zeros(b, d, side, side)
    for i in range(side):
        for j in range(side):
            out[:, :, i, j] = tokens[:, extra + i * side + j]
    return out


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("name", ["fitnet", "attention_transfer", "afd", "channel_wise"])
def test_tokens_are_worth_what_their_patches_are_as_a_map(name: str, extra: int) -> None:
    s, t = pair([(3, 8, 8), (4, 4, 4)], [(16 + extra, 5), (16 + extra, 5)])
    torch.manual_seed(3)
    by_tokens = value(attached(name, s, t), s, t)
    maps = t._replace(features=tuple(as_map(f, extra) for f in t.features))
    torch.manual_seed(3)
    assert torch.allclose(by_tokens, value(attached(name, s, maps), s, maps))


def test_tokens_that_are_no_grid_are_averaged() -> None:
    s, t = pool_to_smaller(torch.arange(16.0).view(1, 1, 4, 4), torch.arange(7.0).view(1, 7, 1))
    assert (s.shape, t.shape) == ((1, 1, 1, 1), (1, 1, 1, 1))
    assert (s.item(), t.item()) == (7.5, 3.0)


@pytest.mark.parametrize(("counts", "size"), [((17, 65), (4, 4)), ((17, 17), (17, 1)), ((16, 64), (16, 1))])
def test_patches_of_two_transformers(counts: tuple[int, int], size: tuple[int, int]) -> None:
    """Only a class token tells a grid of patches from other tokens, or from the channels of a signal."""
    pooled = pool_to_smaller(*(torch.randn(2, t, 3) for t in counts))
    assert [tuple(p.shape[2:]) for p in pooled] == [size, size]


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_tokens_without_a_place_are_refused_by_methods_that_compare_positions(name: str, whose: str) -> None:
    features = [[(3, 8, 8), (4, 4, 4)], [(7, 5), (7, 5)]]
    s, t = pair(*(features if whose == "teacher" else features[::-1]))
    with pytest.raises(InputError, match=rf"^method '{name}' compares positions .* the {whose}'s 7 tokens [^\n]+$"):
        attached(name, s, t)
    assert torch.isfinite(value(attached("fitnet", s, t).train(), s, t))


@pytest.mark.parametrize(
    ("maps", "tokens", "expected"), [(3, 3, [0, 1, 2]), (4, 3, [0, 2, 3]), (5, 3, [1, 2, 4]), (6, 3, [1, 3, 5])]
)
def test_stages_of_different_kinds_are_paired_by_share_of_depth(maps: int, tokens: int, expected: list[int]) -> None:
    s = [torch.full((1, 1, 2, 2), float(i)) for i in range(maps)]
    t = [torch.full((1, 4, 1), float(i)) for i in range(tokens)]
    found = paired_stages(s, t)
    assert [(int(a.max()), int(b.max())) for a, b in found] == list(zip(expected, range(tokens), strict=True))
    assert [int(b.max()) for _, b in paired_stages(t, s)] == expected


def test_fsp_takes_the_stem_only_where_both_have_one() -> None:
    s, t = pair([(3, 8, 8), (4, 4, 4)], [(16, 5), (16, 6)])
    stem = torch.randn(len(s.logits), 2, 8, 8)
    assert [a.shape[1] for a in shapes(attached("fsp", s._replace(stem=stem), t))] == [3, 4]
    both = s._replace(stem=stem), t._replace(stem=torch.randn(len(s.logits), 16, 7))
    assert [a.shape[1] for a in shapes(attached("fsp", *both))] == [2, 3, 4]


def shapes(method: Method) -> Sequence[Tensor]:
    return [a.weight for a in method.adapters]  # type: ignore[union-attr]
