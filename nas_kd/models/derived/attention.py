"""Attention modules of any origin: how they are found, split into linear layers, and told that heads are gone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import TypeIs

HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "nhead", "n_head")
TRIPLES = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
    ("wq", "wk", "wv"),
    ("c_q", "c_k", "c_v"),
)
FUSED = ("qkv", "to_qkv", "in_proj", "c_attn", "query_key_value")
WIDTHS = ("dim", "embed_dim", "attn_dim", "inner_dim", "attention_dim", "all_head_size", "hidden_size")


@dataclass(frozen=True)
class Attention:
    """An attention module.

    Attributes:
        module: it.
        heads: number of query heads.
        kv_heads: number of key and value heads; fewer than `heads` where several queries share them.
        width: heads x channels of a head.
        fused: the linear layer of queries, keys and values one after the other; None: there are three.
        layers: the linear layers that make queries, keys and values.
    """

    module: nn.Module
    heads: int
    kv_heads: int
    width: int
    fused: nn.Linear | None
    layers: tuple[nn.Linear, ...]

    @property
    def unit(self) -> int:
        """Channels of the queries that are cut together: those of all heads that share keys and values."""
        return self.width // self.kv_heads

    def channels_of(self, layer: nn.Linear) -> Tensor:
        """The channel of the queries that each output (P,) of one of `layers` goes with."""
        places = torch.arange(layer.out_features)
        if layer is self.fused or layer is self.layers[0]:
            return places % self.width
        head = self.width // self.heads
        return places // head * self.unit + places % head

    def repair(self, width: int) -> None:
        """Set the module's own numbers to those of a network with fewer heads, that are `width` wide together."""
        for name, value in list(vars(self.module).items()):
            if type(value) is not int:
                continue
            is_heads = name in HEADS or name.endswith(("heads", "kv_head"))
            if is_heads and value in {self.heads, self.kv_heads}:
                setattr(self.module, name, value * width // self.width)
            elif value == self.width and name in WIDTHS:
                setattr(self.module, name, width)


def find_attention(model: nn.Module) -> list[Attention]:
    """Find the attention modules whose heads can be told apart, in the order of the network."""
    return [found for module in model.modules() if (found := _attention(module)) is not None]


def _attention(module: nn.Module) -> Attention | None:
    heads = next((v for name in HEADS if type(v := getattr(module, name, None)) is int and v > 0), None)
    for name in FUSED if heads else ():
        layer = getattr(module, name, None)
        if isinstance(layer, nn.Linear) and heads and layer.out_features % (3 * heads) == 0:
            return Attention(module, heads, heads, layer.out_features // 3, layer, (layer,))
    for names in TRIPLES:
        layers = tuple(layer for name in names if isinstance(layer := getattr(module, name, None), nn.Linear))
        if len(layers) == len(names) and (found := _of_three(module, heads, layers)) is not None:
            return found
    return None


def _of_three(module: nn.Module, heads: int | None, layers: tuple[nn.Linear, ...]) -> Attention | None:
    """Attention with a layer each for queries, keys and values, if their widths are whole heads."""
    query, key, value = (layer.out_features for layer in layers)
    head = query // heads if heads else getattr(module, "head_dim", None)
    if type(head) is not int or head < 1 or key != value or any(width % head for width in (query, key)):
        return None
    heads, kv_heads = query // head, key // head
    return None if heads % kv_heads else Attention(module, heads, kv_heads, query, None, layers)


class SplitAttention(nn.Module):
    """`nn.MultiheadAttention` as linear layers of its own for queries, keys and values, so that heads can be left out.

    Takes and returns what the original does.

    Attributes:
        num_heads: heads that are there.
        head_dim: channels of a head.
    """

    in_proj_bias = None  # what torch's transformer layers look at before they take their fast path
    _qkv_same_embed_dim = True

    def __init__(self, original: nn.MultiheadAttention) -> None:
        """Copy the weights of an attention module that `can_split` accepts."""
        super().__init__()
        width, bias = original.embed_dim, original.in_proj_bias is not None
        self.num_heads, self.head_dim, self.batch_first = original.num_heads, original.head_dim, original.batch_first
        self.dropout = original.dropout
        self.query, self.key, self.value = (nn.Linear(width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, width, original.out_proj.bias is not None)
        self.out.load_state_dict(original.out_proj.state_dict())
        biases = original.in_proj_bias.chunk(3) if bias else (None,) * 3
        for layer, weight, offset in zip(self._inputs(), original.in_proj_weight.chunk(3), biases, strict=True):
            layer.load_state_dict({"weight": weight} | ({} if offset is None else {"bias": offset}))
        self.train(original.training)

    @staticmethod
    def can_split(module: nn.Module) -> TypeIs[nn.MultiheadAttention]:
        """Whether a module is one whose queries, keys and values are as wide as its output, without extra tokens."""
        return (
            type(module) is nn.MultiheadAttention
            and module._qkv_same_embed_dim
            and module.bias_k is None
            and not module.add_zero_attn
        )

    def forward(  # noqa: PLR0917 - as the original's
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention` does; see there for shapes."""
        batched = query.dim() == 3
        if batched and not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        elif not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        q, k, v = (self._heads(layer(x)) for layer, x in zip(self._inputs(), (query, key, value), strict=True))
        mask = _mask(attn_mask, key_padding_mask, self.num_heads, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            attended = F.dropout(weights, dropout, self.training) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        out = self.out(attended.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _inputs(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.query, self.key, self.value

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


def _mask(attn_mask: Tensor | None, padding: Tensor | None, heads: int, q: Tensor) -> Tensor | None:
    """Both masks as numbers that are added to scores (B, heads, L, S)."""
    total: Tensor | None = None
    if attn_mask is not None:
        shaped = attn_mask.reshape(-1, heads, *attn_mask.shape[1:]) if attn_mask.dim() == 3 else attn_mask
        total = _added(shaped, q)
    if padding is not None:
        added = _added(padding, q)[:, None, None, :]
        total = added if total is None else total + added
    return total


def _added(mask: Tensor, q: Tensor) -> Tensor:
    """A mask whose true places are left out, as numbers to add."""
    if mask.dtype.is_floating_point:
        return mask.to(q.dtype)
    return q.new_zeros(mask.shape).masked_fill(mask, float("-inf"))


def split_attention(model: nn.Module) -> nn.Module:
    """Put `SplitAttention` in the place of each `nn.MultiheadAttention` that allows it; changes and returns `model`."""
    for parent in list(model.modules()):
        if isinstance(parent, nn.TransformerEncoder):
            parent.enable_nested_tensor = False  # its fast path asks for the original
        for name, child in list(parent.named_children()):
            if SplitAttention.can_split(child):
                setattr(parent, name, SplitAttention(child))
    return model
