"""Contrastive representation distillation: closed form, who learns from what, draws, banks and memory."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.relation.crd import ContrastiveKD

from .toys import outputs, setting_of


def shown(e: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(e), 3, dtype=e.dtype), (), e)


def contrastive(n: int = 12, b: int = 4, k: int = 5) -> tuple[ContrastiveKD, Outputs, Outputs]:
    torch.manual_seed(0)
    s, t = outputs(0, b, 3, embedding=6), outputs(1, b, 3, embedding=7)
    method = make_method("crd")
    assert isinstance(method, ContrastiveKD)
    method.negatives = k
    method.attach(setting_of(s, [t], n))
    return method.double().train(), s, t


def batch_at(indices: list[int], n_classes: int = 3) -> Batch:
    at = torch.tensor(indices)
    return Batch(torch.zeros(len(at), 1), at % n_classes, at, 0.5)


def state_of(method: ContrastiveKD) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in method.state_dict().items()}


def test_crd_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second step has the first one's Z, and the banks that it left."""
    method, _, _ = contrastive()
    negatives = torch.tensor([[5, 6, 7, 9, 9], [0, 2, 3, 11, 5], [4, 1, 1, 1, 10], [8, 2, 4, 6, 0]])
    monkeypatch.setattr(method, "_draw", lambda _: negatives)
    banks = {who: getattr(method, f"{who}_bank").numpy().copy() for who in ("student", "teacher")}
    z: dict[str, float] = {}
    for step in range(2):
        o = {"student": outputs(10 + step, 4, 3, embedding=6), "teacher": outputs(20 + step, 4, 3, embedding=7)}
        batch = batch_at([3, 10, 0, 7] if step == 0 else [10, 1, 2, 3])
        terms = method(o["student"], [o["teacher"]], batch)
        v = {}
        for who, shown in o.items():
            layer = getattr(method, f"{who}_projection")
            v[who] = shown.embedding.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            v[who] /= np.linalg.norm(v[who], axis=1, keepdims=True)
        for term, anchor, bank in (("crd", "student", "teacher"), ("crd_teacher", "teacher", "student")):
            candidates = np.concatenate([batch.indices.numpy()[:, None], negatives.numpy()], axis=1)
            e = np.exp(np.einsum("bd,bkd->bk", v[anchor], banks[bank][candidates]) / 0.07)
            x = e / z.setdefault(bank, 12 * e.mean())
            h = x / (x + 5 / 12)
            nce = -np.log(h[:, 0]) - np.log(1 - h[:, 1:]).sum(axis=1)
            assert terms[term].item() == pytest.approx(0.8 * nce.mean())
        for who, bank_rows in banks.items():
            moved = 0.5 * bank_rows[batch.indices] + 0.5 * v[who]
            bank_rows[batch.indices] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
            np.testing.assert_allclose(getattr(method, f"{who}_bank").numpy(), bank_rows, atol=1e-12)


def test_crd_draws_evenly_from_other_classes() -> None:
    method, s, t = contrastive(k=12)
    labels = torch.tensor([0, 0, 2, 1, 0, 2, 2, 2, 1, 0, 0, 1])
    for start in range(0, 12, 4):
        at = torch.arange(start, start + 4)
        method(s, [t], Batch(torch.zeros(4, 1), labels[at], at, 0.0))
    batch = Batch(torch.zeros(3, 1), torch.tensor([0, 1, 2]), torch.tensor([0, 3, 2]), 0.0)
    draws = torch.cat([method._draw(batch) for _ in range(500)], dim=1)
    for row, label in zip(draws, batch.y, strict=True):
        counts = torch.bincount(row, minlength=12)
        others = labels != label
        assert not counts[~others].any()
        expected = len(row) / int(others.sum())
        assert (counts[others] - expected).abs().max() < 6 * expected**0.5


def test_crd_knows_a_sample_by_its_label_only_when_it_was_shown() -> None:
    method, s, t = contrastive(k=12)
    method(s, [t], batch_at([0, 3, 1, 2]))
    draws = torch.cat([method._draw(batch_at([0])) for _ in range(200)], dim=1)
    assert set(draws.flatten().tolist()) == set(range(12)) - {0, 3}


def test_crd_remembers_in_training_mode_only() -> None:
    method, s, t = contrastive()
    before = state_of(method)
    method.eval()
    method(s, [t], batch_at([0, 1, 2, 3]))
    assert all(torch.equal(v, before[k]) for k, v in state_of(method).items())
    method.train()
    method(s, [t], batch_at([0, 5, 2, 7]))
    after = state_of(method)
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    rows = (after["teacher_bank"] != before["teacher_bank"]).any(dim=1)
    assert rows.nonzero().flatten().tolist() == [0, 2, 5, 7]
    torch.testing.assert_close(after["student_bank"].norm(dim=1), torch.ones(12, dtype=torch.float64))
    assert after["labels"].tolist() == [0, -1, 2, -1, -1, 2, -1, 1, -1, -1, -1, -1]
    assert torch.isfinite(after["log_z"]).all()


def test_crd_who_learns_from_what() -> None:
    method, s, t = contrastive()
    e_s, e_t = s.embedding.requires_grad_(), t.embedding
    terms = method(s, [t], batch_at([0, 1, 2, 3]))
    by_term = {
        "crd": {"student": True, "student_projection": True, "teacher_projection": False},
        "crd_teacher": {"student": False, "student_projection": False, "teacher_projection": True},
    }
    for term, reached in by_term.items():
        weights = {"student": e_s, "student_projection": method.student_projection.weight}
        weights["teacher_projection"] = method.teacher_projection.weight
        gradients = torch.autograd.grad(terms[term], list(weights.values()), allow_unused=True, retain_graph=True)
        assert {k: g is not None and bool(g.any()) for k, g in zip(weights, gradients, strict=True)} == reached
    assert e_t.grad is None
    assert method.unscaled_terms == {"crd_teacher"}


def test_crd_gradients() -> None:
    method, s, t = contrastive()
    method(s, [t], batch_at([0, 1, 2, 3]))
    method.eval()

    def loss(embedding: Tensor, weight: Tensor) -> Tensor:
        torch.manual_seed(3)
        given = (shown(embedding), [t], batch_at([2, 3, 4, 5]))
        found = torch.func.functional_call(method, {"student_projection.weight": weight}, given)
        return torch.as_tensor(found["crd"])

    weight = method.student_projection.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (s.embedding.requires_grad_(), weight))


def test_crd_brings_samples_to_their_own_teacher() -> None:
    method, _, _ = contrastive(n=8, b=8, k=8)
    e_s, e_t = outputs(0, 8, 3, embedding=6).embedding.requires_grad_(), outputs(1, 8, 3, embedding=7)
    optimizer = torch.optim.SGD([e_s, *method.parameters()], lr=0.1)
    batch, losses = batch_at(list(range(8)), n_classes=8), []
    for _ in range(150):
        losses.append(torch.stack(list(method(shown(e_s), [e_t], batch).values())).sum())
        optimizer.zero_grad()
        losses[-1].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]
    alike = method.student_bank @ method.teacher_bank.T
    assert (alike.argmax(dim=1) == torch.arange(8)).all()


@pytest.mark.parametrize("e", [torch.zeros(2, 6), torch.ones(2, 6)], ids=["dead", "equal"])
def test_crd_with_one_class_and_equal_samples(e: Tensor) -> None:
    method, _, t = contrastive(n=2, b=2)
    e = e.double().requires_grad_()
    for _ in range(3):
        loss = sum(method(shown(e), [t], batch_at([0, 1], n_classes=1)).values())
        assert isinstance(loss, Tensor)
        (gradient,) = torch.autograd.grad(loss, e)
        assert torch.isfinite(gradient).all()
    assert torch.isfinite(method.student_bank).all()


def test_crd_with_made_up_samples_is_refused() -> None:
    method, s, t = contrastive()
    with pytest.raises(InputError, match=r"^crd remembers training samples: .*$"):
        method(s, [t], Batch(torch.zeros(4, 1), torch.arange(4), torch.empty(0, dtype=torch.int64), 0.0))


def saved_bytes(run: Callable[[], object]) -> int:
    """What autograd keeps for backward: each memory once."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = run()
        del result
    return sum(kept.values())


def test_no_vectors_are_gathered() -> None:
    """They would be 256 MiB a bank; the banks are 24 MiB each."""
    s, t = (shown(torch.randn(128, 32)) for _ in range(2))
    s.embedding.requires_grad_()
    method = make_method("crd")
    method.attach(setting_of(s, [t], 50_000))
    assert saved_bytes(lambda: method(s, [t], batch_at(list(range(128)), 10))) < 2**27
