"""Trees against separate sequences: log-probabilities and all gradients, by brute force."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rwml.core.errors import RwmlError
from rwml.trees import attention as tree_attention
from rwml.trees.forward import LossFn, PassOptions, tree_backward, tree_logprobs
from rwml.trees.objectives import LossFields, finish_metrics, token_losses
from rwml.trees.tree import Tree, TreeBuilder, side_by_side

VOCAB = 61
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES = {
    "vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256,
    "bos_token_id": 1, "eos_token_id": 2, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
}  # fmt: skip
TOLERANCE = 1e-5


def make_model(family: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    builders: dict[str, Callable[[], nn.Module]] = {
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=True)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
        "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=3.0, attention_multiplier=0.2)),
    }
    return builders[family]().train()


@dataclass
class Answer:
    """One path and its own loss, before any sharing."""

    ids: list[int]
    start: int
    advantage: float = 0.0
    coefficient: np.ndarray | float = 0.0
    cross_entropy: np.ndarray | float = 0.0
    old_logp: np.ndarray | None = None

    def weights(self, value: np.ndarray | float) -> Tensor:
        span = np.broadcast_to(np.asarray(value, dtype=np.float32), (len(self.ids) - self.start,))
        return torch.from_numpy(span.copy())


def tree_of(answers: list[Answer]) -> Tree:
    builder = TreeBuilder()
    for answer in answers:
        builder.add(
            answer.ids, answer.start, advantage=answer.advantage, coefficient=answer.coefficient,
            cross_entropy=answer.cross_entropy,
        )  # fmt: skip
    tree = builder.build()
    token = {tuple(tree.ids[tree.path(i)].tolist()): i for i in range(tree.num_tokens)}
    for answer in answers:
        for at, old in enumerate([] if answer.old_logp is None else answer.old_logp, answer.start):
            tree.old_logp[token[tuple(answer.ids[: at + 1])]] = old
    return tree


def sequence_logp(model: nn.Module, answer: Answer, temperature: float) -> Tensor:
    logits = model(input_ids=torch.tensor([answer.ids])).logits[0, answer.start - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer.ids[answer.start :])[:, None])[:, 0]


def separate_sequences(
    model: nn.Module, reference: nn.Module, answers: list[Answer], clip: float, kl_weight: float, temperature: float
) -> tuple[Tensor, float]:
    """Loss and gradients of GRPO (arXiv 2402.03300, equations 3 and 4), one full sequence at a time."""
    model.zero_grad()
    total = 0.0
    for answer in answers:
        logp = sequence_logp(model, answer, temperature)
        with torch.no_grad():
            ref = sequence_logp(reference, answer, temperature)
        old = logp.detach() if answer.old_logp is None else torch.from_numpy(answer.old_logp).float()
        ratio = torch.exp(logp - old)
        gain = torch.minimum(ratio * answer.advantage, ratio.clamp(1 - clip, 1 + clip) * answer.advantage)
        k3 = torch.exp(ref - logp) - (ref - logp) - 1
        c = answer.weights(answer.coefficient)
        loss = -(c * (gain - kl_weight * k3)).sum() - (answer.weights(answer.cross_entropy) * logp).sum()
        loss.backward()
        total += loss.item()
    return gradients(model), total


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


def words(rng: np.random.Generator, low: int, high: int) -> list[int]:
    return rng.integers(3, VOCAB, rng.integers(low, high)).tolist()


def group(rng: np.random.Generator, prompt: list[int], size: int = 4, alphabet: int = VOCAB) -> list[Answer]:
    """Answers to one prompt. A small alphabet makes answers begin alike, and be alike, under different advantages."""
    answers = []
    noise: dict[tuple[int, ...], float] = {}
    for _ in range(size):
        ids = rng.integers(3, alphabet, rng.integers(1, 8)).tolist()
        # The sampler reports the same log-probability for the same prefix; far enough from the model's to clip.
        old = [noise.setdefault(tuple(ids[: i + 1]), float(rng.normal(-4.1, 0.5))) for i in range(len(ids))]
        answers.append(
            Answer(prompt + ids, len(prompt), float(rng.normal()), 1 / (size * len(ids)), old_logp=np.array(old))
        )
    return answers


def group_trees(rng: np.random.Generator) -> list[Answer]:
    return [answer for _ in range(3) for answer in group(rng, words(rng, 4, 9))]


def trajectory(rng: np.random.Generator) -> list[Answer]:
    history, answers = words(rng, 5, 9), []
    for _ in range(5):
        answers += group(rng, history + words(rng, 2, 5))
        history = history + words(rng, 3, 7)
    return answers


def shared_answers(rng: np.random.Generator) -> list[Answer]:
    return group(rng, words(rng, 4, 9), size=12, alphabet=5)


def history_windows(rng: np.random.Generator) -> list[Answer]:
    """Windows of two steps: no prompt is a prefix of the next, but all begin alike."""
    opening, steps = words(rng, 3, 6), [words(rng, 3, 6) for _ in range(6)]
    return [a for t in range(2, 6) for a in group(rng, opening + steps[t - 2] + steps[t - 1] + steps[t], size=3)]


def several_spans(rng: np.random.Generator) -> list[Answer]:
    """Policy chains: actions (policy loss) and observations (cross-entropy) by turns."""
    answers = []
    for _ in range(4):
        ids = words(rng, 12, 24)
        acts = (np.arange(len(ids) - 2) // 3 % 2).astype(np.float32)
        old = rng.normal(-4.1, 0.5, len(acts))
        answers.append(Answer(ids, 2, float(rng.normal()), acts * 0.05, (1 - acts) * 0.02, old))
    return answers


def mixture(rng: np.random.Generator) -> list[Answer]:
    """A trajectory whose trunk is learnt too, beside a prompt with one answer that has no old log-probability."""
    answers = trajectory(rng)
    trunk = max((a.ids[: a.start] for a in answers), key=len)
    return [*answers, Answer(trunk, 4, cross_entropy=0.03), Answer(words(rng, 6, 9), 2, 1.0, 0.2)]


SHAPES: list[Callable[[np.random.Generator], list[Answer]]] = [
    group_trees, trajectory, shared_answers, history_windows, several_spans, mixture,
]  # fmt: skip
# Budgets that hold everything, cut a tree at its first fork, and cut at every fork.
WAYS = [("dense", 4096), ("walk", 4096), ("walk", 40), ("walk", 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@pytest.mark.parametrize("family", ["qwen3", pytest.param("llama", marks=pytest.mark.slow)])
def test_trees_equal_separate_sequences(shape: Callable[[np.random.Generator], list[Answer]], family: str) -> None:
    model, reference = make_model(family), make_model(family, seed=1)
    answers = shape(np.random.default_rng(3))
    tree = tree_of(answers)
    expected, expected_loss = separate_sequences(model, reference, answers, 0.2, 0.3, 0.7)
    fields = LossFields.of(tree)
    for method, budget in WAYS:
        logp = tree_logprobs(model, tree, PassOptions(method, temperature=0.7, budget_tokens=budget))
        check_logp(model, tree, answers, logp, 0.7)
        ref = tree_logprobs(reference, tree, PassOptions(method, temperature=0.7, budget_tokens=budget))

        def loss(logp_R: Tensor, tokens_R: Tensor, ref: Tensor = ref) -> tuple[Tensor, dict[str, Tensor]]:
            return token_losses(logp_R, fields.take(tokens_R), ref[tokens_R], kl_weight=0.3)

        model.zero_grad()
        sums = tree_backward(model, tree, loss, PassOptions(method, temperature=0.7, budget_tokens=budget))
        assert sums["loss"] == pytest.approx(expected_loss, abs=TOLERANCE)
        torch.testing.assert_close(gradients(model), expected, atol=TOLERANCE, rtol=TOLERANCE)
    # At least one token must have been clipped, or the test would not notice a missing clip.
    assert shape is mixture or finish_metrics(sums)["clip_fraction"] > 0


def check_logp(model: nn.Module, tree: Tree, answers: list[Answer], logp: Tensor, temperature: float) -> None:
    """Every token of every answer, found by walking its path, has the log-probability that its sequence gives."""
    by_prefix = {tuple(tree.ids[tree.path(i)].tolist()): float(logp[i]) for i in np.flatnonzero(tree.has_loss)}
    for answer in answers:
        with torch.no_grad():
            alone = sequence_logp(model, answer, temperature)
        for i, value in enumerate(alone.tolist(), start=answer.start):
            prefix = tuple(answer.ids[: i + 1])
            if prefix in by_prefix:
                assert by_prefix[prefix] == pytest.approx(value, abs=TOLERANCE)
    assert not logp[torch.from_numpy(~tree.has_loss)].any()


@pytest.mark.parametrize("family", ["gpt2", "granite"])
def test_other_families(family: str) -> None:
    """Learned positions without grouped heads; scaled attention and scaled logits."""
    model, reference = make_model(family), make_model(family, seed=1)
    answers = trajectory(np.random.default_rng(5))
    expected, _ = separate_sequences(model, reference, answers, 0.2, 0.0, 1.0)
    fields = LossFields.of(tree_of(answers))
    for method, budget in WAYS:
        model.zero_grad()
        tree_backward(model, tree_of(answers), fields_loss(fields), PassOptions(method, budget_tokens=budget))
        torch.testing.assert_close(gradients(model), expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("budget", [4096, 60])
def test_packed_rows(budget: int) -> None:
    model = make_model("qwen3")
    rng = np.random.default_rng(7)
    trees = [tree_of(shape(rng)) for shape in (trajectory, several_spans, group_trees)]
    row = side_by_side(trees)
    apart = torch.cat([tree_logprobs(model, tree, PassOptions("dense")) for tree in trees])
    walk = PassOptions("walk", budget_tokens=budget)
    torch.testing.assert_close(tree_logprobs(model, row, walk), apart, atol=TOLERANCE, rtol=0)
    expected = gradient_of(model, trees, PassOptions("dense"))
    torch.testing.assert_close(gradient_of(model, [row], walk), expected, atol=TOLERANCE, rtol=TOLERANCE)


def fields_loss(fields: LossFields) -> LossFn:
    return lambda logp_R, tokens_R: token_losses(logp_R, fields.take(tokens_R))


def gradient_of(model: nn.Module, trees: list[Tree], options: PassOptions) -> Tensor:
    model.zero_grad()
    for tree in trees:
        tree_backward(model, tree, fields_loss(LossFields.of(tree)), options)
    return gradients(model)


@pytest.mark.parametrize("budget", [4096, pytest.param(300, marks=pytest.mark.slow)])
def test_long_chains_and_long_answers(budget: int) -> None:
    """Longer than the blocks that attention is cut into, so that every kind of piece is used."""
    model = make_model("llama")
    rng = np.random.default_rng(11)
    trunk = words(rng, 600, 601)
    answers = [
        Answer(trunk[:cut] + words(rng, size, size + 1), cut, float(rng.normal()), 0.01)
        for cut in (590, 300, 299, 20)
        for size in (280, 30, 30)
    ]
    tree = tree_of(answers)
    assert len(answers[0].ids) > 2 * tree_attention.FOREST_ROWS > 2 * tree_attention.QUERY_ROWS
    expected = gradient_of(model, [tree], PassOptions("dense", budget_tokens=budget))
    walked = gradient_of(model, [tree], PassOptions("walk", budget_tokens=budget))
    torch.testing.assert_close(walked, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_lora_and_its_reference() -> None:
    base = make_model("qwen3")
    plain = make_model("qwen3")
    lora = get_peft_model(
        base, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False)
    )
    answers = trajectory(np.random.default_rng(13))
    tree = tree_of(answers)
    with lora.disable_adapter():
        reference = tree_logprobs(lora, tree, PassOptions("walk", budget_tokens=50))
    torch.testing.assert_close(reference, tree_logprobs(plain, tree, PassOptions("dense")), atol=TOLERANCE, rtol=0)
    assert (tree_logprobs(lora, tree, PassOptions("walk")) - reference).abs().max() > 1e-3
    expected, _ = separate_sequences(lora, plain, answers, 0.2, 0.0, 1.0)
    walked = gradient_of(lora, [tree], PassOptions("walk", budget_tokens=50))
    torch.testing.assert_close(walked, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_gradient_checkpointing_changes_nothing() -> None:
    model = make_model("qwen3")
    tree = tree_of(mixture(np.random.default_rng(17)))
    expected = gradient_of(model, [tree], PassOptions("walk", budget_tokens=40))
    model.gradient_checkpointing_enable()  # type: ignore[operator]
    for budget in (40, 4096):
        walked = gradient_of(model, [tree], PassOptions("walk", budget_tokens=budget))
        torch.testing.assert_close(walked, expected, atol=1e-6, rtol=1e-5)


def test_autocast_stays_close() -> None:
    model = make_model("qwen3")
    tree = tree_of(trajectory(np.random.default_rng(19)))
    expected = gradient_of(model, [tree], PassOptions("walk", budget_tokens=4096))
    for method, budget in WAYS:
        low = gradient_of(model, [tree], PassOptions(method, budget_tokens=budget, autocast=torch.bfloat16))
        assert 0 < (low - expected).norm() / expected.norm() < 0.03


def test_math_attention_equals_the_cpu_kernel() -> None:
    """The path for devices without the CPU's fused kernel, run on CPU tensors."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 8) for heads, n in ((4, 5), (2, 9), (2, 9)))
    mask = tree_attention.additive_mask(torch.rand(5, 9) > 0.3)
    for piece in (tree_attention.Piece(0, 5, 0, 9, mask=mask), tree_attention.Piece(0, 5, 0, 9)):
        fused = tree_attention.cpu_attend(q, k, v, piece, 0.4)
        plain = tree_attention.math_attend(q, k, v, piece, 0.4)
        attended = tree_attention.Attended(q, k, v, *fused)
        torch.testing.assert_close(plain, fused, atol=1e-6, rtol=1e-5)
        grad = torch.randn_like(fused[0])
        by_hand = tree_attention.math_attend_backward(grad, attended, piece, 0.4)
        by_kernel = tree_attention.cpu_attend_backward(grad, attended, piece, 0.4)
        torch.testing.assert_close(by_hand, by_kernel, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_flex_blocks_and_forward() -> None:
    tree = tree_of([a for seed in range(4) for a in trajectory(np.random.default_rng(seed))])
    mask = tree_attention.block_mask(tree.end, torch.device("cpu"))
    blocks = -(-tree.num_tokens // tree_attention.BLOCK)
    visible = np.zeros((blocks * tree_attention.BLOCK,) * 2, dtype=bool)
    visible[: tree.num_tokens, : tree.num_tokens] = tree.visible()
    np.fill_diagonal(visible, True)
    tiles = visible.reshape(blocks, tree_attention.BLOCK, blocks, tree_attention.BLOCK)
    assert blocks > 2
    np.testing.assert_array_equal(mask.to_dense()[0, 0].numpy().astype(bool), tiles.any((1, 3)))
    assert mask.full_kv_num_blocks is not None
    np.testing.assert_array_equal(mask.full_kv_num_blocks[0, 0].numpy(), tiles.all((1, 3)).sum(1))
    model = make_model("qwen3").eval()
    with torch.compiler.set_stance("force_eager"):
        flex = tree_logprobs(model, tree, PassOptions("flex"))
    torch.testing.assert_close(flex, tree_logprobs(model, tree, PassOptions("dense")), atol=TOLERANCE, rtol=0)


def test_final_softcap_of_logits() -> None:
    config = Gemma2Config(
        **SIZES, final_logit_softcapping=0.05, attn_logit_softcapping=None, sliding_window=64, query_pre_attn_scalar=8,
        hidden_activation="gelu_pytorch_tanh",
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config)
    answers = trajectory(np.random.default_rng(23))
    tree = tree_of(answers)
    for method, budget in WAYS:
        check_logp(model, tree, answers, tree_logprobs(model, tree, PassOptions(method, budget_tokens=budget)), 1.0)


def test_models_that_cannot_run_trees_are_refused() -> None:
    tree = tree_of(trajectory(np.random.default_rng(29)))
    sizes = {name: value for name, value in SIZES.items() if name != "head_dim"}
    with pytest.raises(RwmlError, match="sliding window of 8"):
        tree_logprobs(MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)), tree, PassOptions("walk"))
    with pytest.raises(RwmlError, match="the model's 16 positions"):
        tree_logprobs(LlamaForCausalLM(LlamaConfig(**SIZES, max_position_embeddings=16)), tree, PassOptions("walk"))
    with pytest.raises(RwmlError, match=r"attention dropout is 0\.1"):
        tree_logprobs(LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.1)).train(), tree, PassOptions("walk"))
    with pytest.raises(RwmlError, match="unknown method 'wlk'"):
        tree_logprobs(make_model("llama"), tree, PassOptions("wlk"))
    with pytest.raises(RwmlError, match="no parameter of LlamaForCausalLM takes a gradient"):
        tree_backward(make_model("llama").requires_grad_(False), tree, fields_loss(LossFields.of(tree)))


def test_nothing_to_learn_is_no_work() -> None:
    builder = TreeBuilder()
    builder.add([3, 4, 5])
    model = make_model("llama")
    assert tree_backward(model, builder.build(), fields_loss(LossFields.of(builder.build()))) == {}
    assert tree_logprobs(model, builder.build()).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.slow
def test_a_backward_pass_leaves_no_graph_behind() -> None:
    tree = tree_of(trajectory(np.random.default_rng(31)))
    tree_backward(make_model("qwen3"), tree, fields_loss(LossFields.of(tree)), PassOptions("walk", budget_tokens=8))
    gc.collect()
    assert [thing for thing in gc.get_objects() if isinstance(thing, tree_attention.KeyStore)] == []
