"""Cuts a network in two at a module, and makes the part behind the cut a network of its own."""

import torch.fx
from torch import nn

from nas_kd.errors import InputError


class _Tracer(torch.fx.Tracer):
    """Traces into the modules around the cut only; all others stay whole, whatever they do."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self._cut = cut

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._cut.startswith(f"{module_qualified_name}.")


def subgraph_after(model: nn.Module, cut: str) -> nn.Module:
    """Return the layers of a network behind the last call of one of its modules.

    Args:
        model: the whole network.
        cut: the module's path in it.

    Returns:
        A network that turns the module's output into the model's; its layers are the model's own, under the same names.

    Raises:
        InputError: the model cannot be traced there, or something goes around `cut` (a shortcut).
    """
    try:
        graph = _Tracer(cut).trace(model)
    except Exception as error:  # whatever a user's network does in its forward
        raise InputError(
            f"cannot cut {type(model).__name__} at {cut!r}: {' '.join(str(error).split())[:200]}"
        ) from error
    at = next((n for n in reversed(graph.nodes) if n.op == "call_module" and n.target == cut), None)
    if at is None:
        raise InputError(f"cannot cut {type(model).__name__} at {cut!r}: it is not called there by itself")
    with graph.inserting_before(at):
        entry = graph.placeholder("features")
    nodes = list(graph.nodes)
    kept = {entry, *(n for n in nodes[nodes.index(at) + 1 :] if n.op == "output" or _works_in_place(n, model))}
    at.replace_all_uses_with(entry)
    for node in reversed(nodes):
        if node not in kept and not node.users:
            graph.erase_node(node)
    if [n for n in graph.nodes if n.op == "placeholder"] != [entry]:
        raise InputError(f"cannot cut {type(model).__name__} at {cut!r}: something goes around it")
    graph.lint()
    return torch.fx.GraphModule(model, graph)


def _works_in_place(node: torch.fx.Node, model: nn.Module) -> bool:
    """Whether a step may change its input, so that it matters even if nothing reads its result."""
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op != "get_attr" and (name.endswith("_") or bool(node.kwargs.get("inplace")))
