"""What every sampler must be, and how it is got by name."""

from __future__ import annotations

import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SAMPLERS, Sampler, SamplingParams, Session


def test_the_sampler_of_this_process_meets_the_protocol(lm: LanguageModel) -> None:
    sampler = SAMPLERS.get("local")(lm, None)
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler.session([[3, 4]]), Session)
    prompt = lm.chat.opening("", "You see a desk 1.") + lm.chat.ask()
    [[completion]] = sampler.sample([prompt], 1, SamplingParams(40, 0), torch.Generator())
    assert completion.truncated == (completion.ids[-1] not in lm.chat.stop_ids)
    with pytest.raises(RwmlError, match="there is no sampler 'locl'"):
        SAMPLERS.get("locl")
