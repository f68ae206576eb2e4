"""Small transformers of several kinds of attention, written as their authors would."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_CLASSES = 4


class FusedAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(y.reshape(n, t, self.num_heads * self.head_dim))  # type: ignore[no-any-return]


class SeparateAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = heads, dim // heads, dim
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-1, -2) / self.attention_head_size**0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(*x.shape[:2], self.all_head_size))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_attention_heads, self.attention_head_size).transpose(1, 2)


class TorchAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


class GroupedQueryAttention(nn.Module):
    """Several query heads share a head of keys and values; places by rotation, as in language models."""

    def __init__(self, dim: int, heads: int, repeat: str = "expand", kv_heads: int = 2) -> None:
        super().__init__()
        self.num_heads, self.num_key_value_heads, self.head_dim = heads, kv_heads, dim // heads
        self.num_key_value_groups, self.repeat = heads // kv_heads, repeat
        self.q_proj, self.o_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.k_proj, self.v_proj = (nn.Linear(dim, self.num_key_value_heads * self.head_dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q = rotated(self.q_proj(x).view(n, t, self.num_heads, self.head_dim).transpose(1, 2))
        k, v = (
            layer(x).view(n, t, self.num_key_value_heads, self.head_dim).transpose(1, 2)
            for layer in (self.k_proj, self.v_proj)
        )
        k, times = rotated(k), self.num_key_value_groups
        if self.repeat == "expand":
            k, v = (
                z[:, :, None].expand(n, -1, times, t, self.head_dim).reshape(n, -1, t, self.head_dim) for z in (k, v)
            )
        elif self.repeat == "interleave":
            k, v = (z.repeat_interleave(times, 1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.repeat == "torch's")
        return self.o_proj(y.transpose(1, 2).reshape(n, t, -1))  # type: ignore[no-any-return]


def rotated(x: Tensor) -> Tensor:
    """Queries or keys (B, heads, T, d), each half a head turned by an angle that grows with the place."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2])[:, None] / 10.0 ** torch.arange(half)
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * angles.cos().repeat(1, 2) + turned * angles.sin().repeat(1, 2)


class Encoder(nn.Module):
    def __init__(self, dim: int, heads: int, attention: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(dim), attention(dim, heads), nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    def __init__(
        self, attention: Callable[[int, int], nn.Module] = FusedAttention, dim: int = 32, n_classes: int = N_CLASSES
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.ModuleList([Encoder(dim, 4, attention) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])  # type: ignore[no-any-return]


class TextTransformer(nn.Module):
    """Torch's own encoder layers on token numbers, with a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 32, padding_idx=0), nn.Embedding(12, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(32, N_CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        ids = ids.long()
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        x = self.encoder(x, src_key_padding_mask=ids == 0)
        return self.head(x.mean(1))  # type: ignore[no-any-return]
