"""Models whose attention cannot be taken over, against plain forward passes and `generate`."""

from __future__ import annotations

import pytest
import torch

from rwml.models.sampling.local import LocalSampler
from rwml.models.sampling.sampler import SamplingParams
from sampled import misses, plain_logprobs
from small_models import STOP, greedy, make_model, numbers


@pytest.mark.parametrize("kind", ["alibi", "recurrent"])
def test_models_with_another_attention_are_read_whole_each_time(kind: str) -> None:
    model = make_model(kind)
    with pytest.warns(UserWarning, match="cannot share prefixes"):
        sampler = LocalSampler(model, [STOP])
    prompts = [numbers(12, 1), numbers(9, 2), numbers(12, 1)]
    session, contexts = sampler.session(prompts), [list(prompt) for prompt in prompts]
    generator, same = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    for rows in ([0, 1, 2], [2, 0], [1, 2, 0]):
        done = session.sample(rows, SamplingParams(6), generator)
        for row, completion, uniform in zip(rows, done, torch.rand(len(rows), 6, generator=same), strict=True):
            assert misses(plain_logprobs(model, contexts[row], completion.ids), completion.ids, uniform) < 1e-5
            contexts[row] += [*completion.ids, 3, 5]
        session.extend(rows, [[3, 5]] * len(rows))
    (group,) = sampler.sample([prompts[1]], 3, SamplingParams(5, temperature=0), generator)
    assert {completion.ids for completion in group} == {greedy(model, prompts[1], 5)}
