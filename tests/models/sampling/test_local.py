"""The sampler against plain forward passes and `generate`, in float32 on tiny random models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rwml.core.errors import NotFiniteError, RwmlError
from rwml.models.sampling.local import LocalSampler, pick
from rwml.models.sampling.sampler import Completion, SamplingParams
from sampled import misses, plain_logprobs, uniforms_of
from small_models import KINDS, STOP, VOCAB, episode_prompts, greedy, make_model, numbers


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_sampling_is_generate(kind: str) -> None:
    model, prompts = make_model(kind), episode_prompts()
    sampler = LocalSampler(model, [STOP])
    assert sampler.shares
    out = sampler.sample(prompts, 2, SamplingParams(14, temperature=0), torch.Generator())
    for prompt, group in zip(prompts, out, strict=True):
        expected = greedy(model, prompt, 14)
        assert [completion.ids for completion in group] == [expected, expected]
        assert all(completion.truncated == (expected[-1] != STOP) for completion in group)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_are_those_that_a_plain_forward_pass_gives(kind: str, temperature: float) -> None:
    model, prompts = make_model(kind), episode_prompts()
    params = SamplingParams(20, temperature=temperature)
    out = LocalSampler(model, [STOP, 4, 12]).sample(prompts, 5, params, torch.Generator().manual_seed(0), max_rows=32)
    uniforms = uniforms_of(prompts, 5, 20, torch.Generator().manual_seed(0), max_rows=32)
    lengths = set()
    for prompt, group, rows in zip(prompts, out, uniforms, strict=True):
        assert len(group) == 5
        for completion, uniform in zip(group, rows, strict=True):
            lengths.add(len(completion.ids))
            assert misses(plain_logprobs(model, prompt, completion.ids, temperature), completion.ids, uniform) < 1e-5
            assert completion.truncated == (completion.ids[-1] not in (STOP, 4, 12))
            assert not set(completion.ids[:-1]) & {STOP, 4, 12}
    assert len(lengths) > 4, "rows must end at different steps, or leaving the batch is not tried"


def test_smaller_batches_of_whole_prompts_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts, params = make_model("qwen3"), episode_prompts(), SamplingParams(20)
    sampler = LocalSampler(model, [STOP])
    once = sampler.sample(prompts, 3, params, torch.Generator().manual_seed(0))
    sizes, prefilled = [], LocalSampler.prefilled

    def counted(self: LocalSampler, batch: Any) -> Any:
        sizes.append(len(batch))
        return prefilled(self, batch)

    monkeypatch.setattr(LocalSampler, "prefilled", counted)
    monkeypatch.setattr("rwml.models.sampling.local.rows_at_a_time", lambda model, columns, most: 8)
    assert sampler.sample(prompts, 3, params, torch.Generator().manual_seed(0)) == once
    assert sum(sizes) == 3 * len(prompts)
    assert set(sizes[:-1]) == {6}


@pytest.mark.parametrize("kind", KINDS)
def test_turns_with_kept_caches_equal_whole_contexts(kind: str) -> None:
    model = make_model(kind)
    opening = numbers(12, 7)
    prompts = [opening, opening, [*opening[:8], 9, 9], opening, [13], opening]
    session = LocalSampler(model, [STOP, 4, 12]).session(prompts)
    contexts = [list(prompt) for prompt in prompts]
    generator, same = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    turns = [[0, 1, 2, 3, 4, 5], [5, 3, 1], [0, 2, 4, 1], [2, 1, 5], [1, 2], [1]]
    for turn, rows in enumerate(turns):
        done = session.sample(rows, SamplingParams(9 + turn), generator)
        for row, completion, uniform in zip(rows, done, torch.rand(len(rows), 9 + turn, generator=same), strict=True):
            assert misses(plain_logprobs(model, contexts[row], completion.ids), completion.ids, uniform) < 1e-5
            contexts[row] += completion.ids
        observations = [numbers(1 + (3 * row + turn) % 7, 50 * turn + row) for row in rows]
        if turn != 4:  # one turn follows another without anything new
            session.extend(rows, observations)
            for row, observation in zip(rows, observations, strict=True):
                contexts[row] += observation
        if turn == 2:
            session.drop([0, 4])
        if turn == 3:
            session.drop([3])
    assert session.sample([], SamplingParams(3), generator) == []


def test_greedy_turns_are_generate_on_the_whole_context() -> None:
    model = make_model("qwen3")
    prompts = [numbers(10, 1), numbers(15, 2), numbers(10, 1)]
    session, contexts = LocalSampler(model, [STOP]).session(prompts), [list(prompt) for prompt in prompts]
    for turn in range(4):
        done = session.sample([2, 0, 1], SamplingParams(6, temperature=0), torch.Generator())
        for row, completion in zip([2, 0, 1], done, strict=True):
            assert completion.ids == greedy(model, contexts[row], 6)
            contexts[row] += [*completion.ids, 3, 5 + turn]
        session.extend([0, 1, 2], [[3, 5 + turn]] * 3)


def test_same_seed_same_tokens_whenever_other_rows_end() -> None:
    model, prompts = make_model("llama"), episode_prompts()
    sampler = LocalSampler(model, [STOP])

    def run(seed: int) -> list[list[tuple[int, ...]]]:
        out = sampler.sample(prompts, 4, SamplingParams(10), torch.Generator().manual_seed(seed))
        return [[completion.ids for completion in group] for group in out]

    assert run(1) == run(1) != run(2)
    ended_early = LocalSampler(model, range(2, VOCAB, 3)).sample(
        prompts, 4, SamplingParams(10), torch.Generator().manual_seed(1)
    )
    for whole, group in zip(run(1), ended_early, strict=True):
        assert all(ids[: len(c.ids)] == c.ids or STOP in ids for ids, c in zip(whole, group, strict=True))


def test_stop_token_is_kept_and_ends_the_message() -> None:
    model = make_model("qwen3")
    prompt = numbers(10, 4)
    ids = greedy(model, prompt, 8)
    stop = ids[3]
    first = ids.index(stop)
    (completion,) = LocalSampler(model, [stop]).sample(
        [prompt], 1, SamplingParams(8, temperature=0), torch.Generator()
    )[0]
    assert completion == Completion(ids[: first + 1], truncated=False)
    (cut,) = LocalSampler(model, []).sample([prompt], 1, SamplingParams(3, temperature=0), torch.Generator())[0]
    assert cut == Completion(ids[:3], truncated=True)


def test_sampled_frequencies_follow_the_model() -> None:
    model, prompt = make_model("qwen3"), numbers(6, 9)
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    (group,) = LocalSampler(model, []).sample([prompt], 8000, SamplingParams(1), torch.Generator().manual_seed(0), 4000)
    seen = torch.bincount(torch.tensor([completion.ids[0] for completion in group]), minlength=VOCAB)
    common = expected * 8000 >= 5
    chi2 = ((seen - expected * 8000) ** 2 / (expected * 8000))[common].sum().item()
    # The 99.9% quantile of chi-square with k degrees of freedom is below k + 4.5 * sqrt(2 k) for k >= 3.
    k = int(common.sum()) - 1
    assert k >= 3
    assert chi2 < k + 4.5 * (2 * k) ** 0.5


def test_cuts_leave_the_likeliest_tokens_in_proportion() -> None:
    probs = torch.tensor([[0.1, 0.4, 0.0, 0.3, 0.2]])
    uniform = torch.linspace(0, 1 - 2**-24, 10_001)

    def shares(**cuts: Any) -> list[float]:
        ids = pick(probs.log().expand(10_001, 5), uniform, SamplingParams(1, **cuts))
        return [round(share, 2) for share in (torch.bincount(ids, minlength=5) / 10_001).tolist()]

    assert shares() == [0.1, 0.4, 0.0, 0.3, 0.2]
    assert shares(top_k=2) == [0.0, 0.57, 0.0, 0.43, 0.0]
    assert shares(top_p=0.75) == [0.0, 0.44, 0.0, 0.33, 0.22]
    assert shares(top_p=0.3) == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert shares(top_k=3, top_p=0.5) == [0.0, 0.57, 0.0, 0.43, 0.0]


def test_model_is_left_as_it_was() -> None:
    model = make_model("qwen3")
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()], model.config._attn_implementation
    sampler = LocalSampler(model, [STOP], autocast=torch.bfloat16)
    sampler.session([[3, 4]]).sample([0], SamplingParams(2), torch.Generator())
    assert ([module.training for module in model.modules()], model.config._attn_implementation) == before
    with pytest.raises(RwmlError, match="empty prompt"):
        sampler.sample([[]], 2, SamplingParams(2), torch.Generator())
    assert ([module.training for module in model.modules()], model.config._attn_implementation) == before


def test_an_adapter_is_sampled_with() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        make_model("llama"), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    prompt = numbers(9, 3)
    sampler = LocalSampler(model, [])
    assert sampler.shares
    (group,) = sampler.sample([prompt], 4, SamplingParams(5), torch.Generator().manual_seed(0))
    [uniforms] = uniforms_of([prompt], 4, 5, torch.Generator().manual_seed(0))
    for completion, uniform in zip(group, uniforms, strict=True):
        assert misses(plain_logprobs(model, prompt, completion.ids), completion.ids, uniform) < 1e-5
    with model.disable_adapter():
        without = [plain_logprobs(model, prompt, completion.ids) for completion in group]
    assert max(misses(logp, c.ids, uniform) for logp, c, uniform in zip(without, group, uniforms, strict=True)) > 0.01


def test_bfloat16_autocast_stays_close() -> None:
    model, prompts = make_model("qwen3"), episode_prompts()
    out = LocalSampler(model, [], torch.bfloat16).sample(
        prompts, 3, SamplingParams(6), torch.Generator().manual_seed(0)
    )
    uniforms = uniforms_of(prompts, 3, 6, torch.Generator().manual_seed(0))
    for prompt, group, rows in zip(prompts, out, uniforms, strict=True):
        for completion, uniform in zip(group, rows, strict=True):
            assert misses(plain_logprobs(model, prompt, completion.ids), completion.ids, uniform) < 0.05


@pytest.mark.parametrize("cuts", [{}, {"top_k": 2}, {"top_p": 0.5}, {"temperature": 0.0}, {"temperature": 0.5}])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_row_without_a_distribution_has_no_token(cuts: dict[str, Any], wrong: float) -> None:
    """NaN and +infinity spoil their row alone; -infinity is a token that never comes."""
    sure = [0.0, -float("inf"), 9e9, 0.0]
    logits = torch.tensor([sure, [0.0, wrong, 1.0, 0.0], sure, [-float("inf")] * 4])
    assert pick(logits, torch.full((4,), 0.4), SamplingParams(1, **cuts)).tolist() == [2, -1, 2, -1]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e-300])
def test_a_model_whose_logits_are_no_numbers_is_an_error_and_writes_no_token(temperature: float) -> None:
    model, prompts = make_model("qwen3"), [numbers(8, 2), numbers(5, 3)]
    params = SamplingParams(4, temperature)
    sampler = LocalSampler(model, [STOP])
    session = sampler.session(prompts)
    if temperature in (0.0, 1.0):
        with torch.no_grad():
            model.lm_head.weight[3] = float("nan")
    for sample in (
        lambda: sampler.sample(prompts, 2, params, torch.Generator()),
        lambda: session.sample([0, 1], params, torch.Generator()),
    ):
        with pytest.raises(NotFiniteError, match=r"NaN or infinite in \d of \d answers \(temperature ") as caught:
            sample()
        assert caught.value.why
        assert "model.dtype = 'float32'" in caught.value.fix
