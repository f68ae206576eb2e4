"""Gives a network of any kind random weights, as its layers are made with."""

import torch
from torch import nn

STD = 0.02  # of embeddings of tokens and places, as in vision transformers


def fresh_weights(model: nn.Module) -> nn.Module:
    """Draw all weights of a network anew, from torch's global generator; changes and returns it.

    Layers that know how to are reset; other tensors of two and more sides are drawn from a normal distribution of
    deviation 0.02, vectors get their mean.

    Args:
        model: any.
    """
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if p is not None]
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        with torch.no_grad():
            for parameter in own:
                if parameter.dim() > 1:
                    nn.init.trunc_normal_(parameter, std=STD)
                else:
                    parameter.fill_(float(parameter.mean()))
    return model
