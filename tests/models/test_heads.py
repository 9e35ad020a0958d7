"""Projectors of tokens against convolutions, padding that leaves no trace, learned attention against Eq. 4."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nbcore.models.heads import TokenAttention, local_projector


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_local_projector_equals_convolutions_of_length_one():
    ours = local_projector(6, 8, 4)
    layers = nn.Conv1d(6, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 4, 1), nn.BatchNorm1d(4, affine=False)
    convolutions = nn.Sequential(*layers)
    ours.head.load_state_dict({key: value.squeeze(-1) for key, value in convolutions.state_dict().items()})
    tokens = draw(3, 5, 6)
    torch.testing.assert_close(ours(tokens), convolutions(tokens.mT).mT)
    torch.testing.assert_close(ours.head[4].running_var, convolutions[4].running_var)
    torch.testing.assert_close(ours.eval()(tokens), convolutions.eval()(tokens.mT).mT)


def test_padding_is_projected_to_zero_and_moves_no_statistic():
    module = local_projector(6, 8, 4)
    mask = torch.arange(7) < torch.tensor([3, 7, 1])[:, None]
    tokens = draw(3, 7, 6).requires_grad_()
    projected = module(tokens, mask)
    assert projected.shape == (3, 7, 4)
    assert not projected[~mask].any()
    torch.testing.assert_close(projected[mask], module.head(tokens[mask]))
    torch.testing.assert_close(projected[mask].mean(dim=0), torch.zeros(4), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(projected.pow(3).sum(), [tokens])
    assert not gradient[~mask].any()
    assert gradient[mask].any()
    everything = torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(module(tokens, everything), module(tokens))


def test_token_attention_is_equation_4():
    module = TokenAttention(4)
    query, context = draw(2, 3, 4), draw(2, 5, 4, seed=1)
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    output, weights = module(query, context, mask), module.weights(query, context, mask)
    state = {key: value.detach().numpy() for key, value in module.attention.state_dict().items()}
    (q, k, v), biases = np.split(state["in_proj_weight"], 3), np.split(state["in_proj_bias"], 3)
    for i in range(2):
        length = int(mask[i].sum())
        r, z = (F.normalize(x, dim=1).numpy() for x in (query[i], context[i, :length]))
        scores = np.exp((r @ q.T + biases[0]) @ (z @ k.T + biases[1]).T / np.sqrt(4))
        alpha = scores / scores.sum(axis=1, keepdims=True)
        attended = alpha @ (z @ v.T + biases[2]) @ state["out_proj.weight"].T + state["out_proj.bias"]
        np.testing.assert_allclose(weights[i, :, :length].detach(), alpha, rtol=1e-5)
        np.testing.assert_allclose(output[i].detach(), attended, rtol=1e-4, atol=1e-6)
    assert not weights[1, :, 2:].any()
    torch.testing.assert_close(module(3 * query, context, mask), output)
