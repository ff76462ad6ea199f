"""TRL 1.16's trainers on the same work, driven through their own `train()`.

`GRPOTrainer`: the whole class; in mode "update" its `rollout_func` hands it the fixed prompts and answers, and its
reward function the advantages (`scale_rewards="none"`: their mean is 0 already), so that padding, shuffling,
micro-batches, the reference pass, the fused head, the loss and the optimiser are TRL's own. In mode "step" it
generates, and scores with sentence-transformers called on every pair. `use_bias_correction_kl` is off (its default
differentiates the KL term through the importance ratio as well), so that the loss is equation 3 of the GRPO paper, as
ours is.

`AsyncGRPOTrainer`: the whole class, its rollouts from a stub in this process instead of vLLM. One thing is replaced:
its tree rows attend by a FlashAttention-3 kernel that needs a GPU; here each segment attends by PyTorch's fused CPU
kernel to the keys and values gathered along its path, which is what that kernel computes.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer, async_grpo_trainer
from trl.experimental.async_grpo.async_rollout_worker import RolloutSample
from trl.experimental.async_grpo.packing import TREE_ATTENTION

from episodes import Work
from rwml.core.prompts import action_text, parse_next_state
from rwml.models.embedding.minilm import installed_folder
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.worlds.by_name import get_world
from workers import Channel, Meter, Options, key_of, perturb, save_gradients

FOREVER = 10**6


def serve(options: Options, folder: Path, channel: Channel, meter: Meter) -> None:
    """Build the trainer and train; every optimiser step waits for a command and answers it."""
    torch.set_num_threads(options.threads)
    work = Work.load(Path(options.work))
    lm = load_language_model(options.model, device="cpu")
    build = {"grpo": grpo_trainer, "async": async_trainer}[options.side]
    trainer = build(options, work, lm, folder)
    trainer.add_callback(Served(trainer, channel, meter, warm_up=options.side == "async"))
    trainer.train()


class Served(TrainerCallback):
    """Measures from one command to the end of its optimiser step.

    warm_up: make one step before the first command. The asynchronous trainer packs its rows one step ahead, so only
    from then on does every measured step hold exactly one packing.
    """

    def __init__(self, trainer: Any, channel: Channel, meter: Meter, *, warm_up: bool) -> None:
        self.trainer, self.channel, self.meter, self.warm = trainer, channel, meter, warm_up
        self.path = ""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0 and not self.warm:
            self.wait()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.path:
            save_gradients(self.trainer.model, self.trainer.logprobs, self.path)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.warm:
            self.channel.reply({**self.meter.stop(), **self.trainer.figures()})
        self.warm = False
        self.wait()

    def wait(self) -> None:
        self.path = self.channel.wait().get("save", "")
        self.trainer.begin(keep=bool(self.path))
        self.meter.start()


class Noted:
    """What is read off a trainer from outside: the loss of a step, and log-probabilities when they are asked for."""

    keeping = False
    loss = 0.0
    logprobs: dict[str, Tensor] = {}
    parts: dict[str, float] = {}

    def begin(self, *, keep: bool) -> None:
        self.keeping = keep
        self.loss, self.logprobs, self.parts = 0.0, {}, {}

    def figures(self) -> dict[str, Any]:
        return {"loss": float(self.loss), **self.parts}

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self.loss += float(loss)
        return loss


class NotedGRPO(Noted, GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` with its loss, its log-probabilities and the time of its parts noted."""

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        result = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if self.keeping and model is not self.ref_model:
            for ids, mask, logp in zip(input_ids, attention_mask.bool(), result[0].detach(), strict=True):
                self.logprobs[key_of(ids[mask].tolist())] = logp[mask[-logits_to_keep:]]
        return result

    def _generate(self, prompts: list[Any]) -> Any:
        start = time.perf_counter()
        result = super()._generate(prompts)
        self.parts["sample_s"] = time.perf_counter() - start
        return result

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        start = time.perf_counter()
        rewards = super()._calculate_rewards(*args, **kwargs)
        self.parts["reward_s"] = time.perf_counter() - start
        return rewards


def grpo_trainer(options: Options, work: Work, lm: LanguageModel, folder: Path) -> GRPOTrainer:
    """The settings say float32, plain GRPO, one update a batch; the rest is as TRL has it."""
    rows = work.rewards_PG.size
    lengths = [len(answer.ids) for group in work.answers for answer in group]
    config = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=options.micro,
        gradient_accumulation_steps=rows // options.micro,
        num_generations=work.group_size,
        max_completion_length=options.max_new_tokens if options.mode == "step" else max(lengths),
        temperature=1.0,
        beta=options.kl,
        use_bias_correction_kl=False,
        loss_type="grpo",
        epsilon=0.2,
        scale_rewards="group" if options.mode == "step" else "none",
        gradient_checkpointing=options.checkpointing,
        **common(),
    )
    step = options.mode == "step"
    numbers = [str(number) for number in range(len(work.answers))]
    trainer = NotedGRPO(
        model=policy(options),
        reward_funcs=similarity(options, lm) if step else given_advantage,
        args=config,
        train_dataset=conversations(work) if step else Dataset.from_dict({"prompt": numbers}),
        processing_class=lm.tokenizer,
        rollout_func=None if step else FixedRollouts(work, lm),
    )
    perturb(trainer.model, options.noise)
    return trainer


def common() -> dict[str, Any]:
    """Weights that stay where they are, float32, and no logs, checkpoints or progress bars."""
    return {
        "learning_rate": 0.0,
        "max_grad_norm": 1e9,
        "max_steps": FOREVER,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def policy(options: Options) -> Any:
    """The model; the reference is loaded from the same folder by TRL."""
    return AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa")


class FixedRollouts:
    """Takes the place of generation: the answers to prompt i, in their order, with the advantage of each."""

    def __init__(self, work: Work, lm: LanguageModel) -> None:
        self.work, self.questions, self.advantages_PG = work, work.questions(lm), work.advantages_PG()
        self.__name__ = "fixed_rollouts"

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        asked: dict[int, int] = {}
        pairs = []
        for prompt in map(int, prompts):
            asked[prompt] = asked.get(prompt, -1) + 1
            pairs.append((prompt, asked[prompt]))
        return {
            "prompt_ids": [list(self.questions[p]) for p, _ in pairs],
            "completion_ids": [list(self.work.answers[p][g].ids) for p, g in pairs],
            "logprobs": None,
            "advantage": [float(self.advantages_PG[p, g]) for p, g in pairs],
        }


def given_advantage(prompts: Any, completions: Any, advantage: list[float], **kwargs: Any) -> list[float]:
    """The advantage that came with the answer, as its reward."""
    return advantage


def conversations(work: Work) -> Dataset:
    """Every transition as the chat that its question is asked in."""
    prompts = get_world("alfworld").prompts(work.style)
    rows = []
    for row in work.transitions:
        messages = [f"{prompts.world_model}\n\n{row.opening}" if prompts.world_model else row.opening]
        messages += [action_text(text) if number % 2 == 0 else text for number, text in enumerate(row.history)]
        messages[-1] += prompts.question.format(action=row.action)
        roles = ("user", "assistant")
        chat = [{"role": roles[number % 2], "content": text} for number, text in enumerate(messages)]
        rows.append({"prompt": chat, "real": row.next_state})
    return Dataset.from_list(rows)


def similarity(options: Options, lm: LanguageModel) -> Any:
    """The sim-to-real reward as one writes it down: both texts of every pair go through sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(installed_folder()), device="cpu")
    model.encode(["first call"], show_progress_bar=False)

    def reward(completion_ids: list[list[int]], real: list[str], **kwargs: Any) -> list[float]:
        predicted = [parse_next_state(lm.chat.decode(ids)) for ids in completion_ids]
        how = {"normalize_embeddings": True, "show_progress_bar": False}
        left = model.encode([text or "" for text in predicted], **how)
        right = model.encode(real, **how)
        near = 1 - (left * right).sum(axis=1) < options.tau_d
        return [float(close and text is not None) for close, text in zip(near, predicted, strict=True)]

    return reward


class NotedAsync(Noted, AsyncGRPOTrainer):  # type: ignore[misc]
    """`AsyncGRPOTrainer` with its loss noted."""


def async_trainer(options: Options, work: Work, lm: LanguageModel, folder: Path) -> AsyncGRPOTrainer:
    """All answers of the batch in one tree row, as its fixed-count batcher packs them."""
    config = AsyncGRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=work.rewards_PG.size,
        gradient_accumulation_steps=1,
        num_generations=work.group_size,
        temperature=1.0,
        epsilon=0.2,
        token_budget=0,
        max_staleness=FOREVER,
        weight_sync_steps=FOREVER,
        gradient_checkpointing=options.checkpointing,
        **common(),
    )
    # Neither is used here: the GPU's peak rate is for a metric, the client for a server that there is not.
    async_grpo_trainer.get_peak_flops_per_device = lambda *_: None
    async_grpo_trainer.VLLMClient = lambda *_: None
    trainer = NotedAsync(
        model=options.model,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["unused"]}),
        processing_class=lm.tokenizer,
        rollout_worker=GivenRollouts(work, lm, logprobs_of(options, work, lm)),
        weight_transfer=NoTransfer(),
    )
    # The trainer has registered its own kernel by now.
    AttentionInterface.register(TREE_ATTENTION, segment_attention)
    perturb(trainer.model, options.noise)
    return trainer


def logprobs_of(options: Options, work: Work, lm: LanguageModel) -> list[list[list[float]]]:
    """What the sampler would have reported, as this trainer needs it: [P][G][tokens of the answer]."""
    model = policy(options).eval()
    perturb(model, options.noise)
    logprobs: list[list[list[float]]] = []
    with torch.no_grad():
        for question, group in zip(work.questions(lm), work.answers, strict=True):
            logprobs.append([])
            for answer in group:
                ids = torch.tensor([*question, *answer.ids])
                logits = model(ids[None], logits_to_keep=len(answer.ids) + 1).logits[0, :-1].float()
                logprobs[-1].append(logits.log_softmax(-1).gather(1, ids[len(question) :, None])[:, 0].tolist())
    return logprobs


class GivenRollouts:
    """The rollout worker: a queue that never runs dry of the same scored samples."""

    def __init__(self, work: Work, lm: LanguageModel, logprobs: list[list[list[float]]]) -> None:
        self.metrics_queue: queue.Queue[Any] = queue.Queue()
        advantages_PG = work.advantages_PG()
        self.samples = [
            RolloutSample(
                prompt=[],
                completion=[],
                input_ids=np.array([*question, *answer.ids]),
                completion_mask=np.array([0] * len(question) + [1] * len(answer.ids)),
                old_log_probs=np.array([0.0] * len(question) + logprobs[p][g], dtype=np.float32),
                advantage=float(advantages_PG[p, g]),
                model_version=0,
                group_id=p,
                metrics={},
            )
            for p, question in enumerate(work.questions(lm))
            for g, answer in enumerate(work.answers[p])
        ]
        self.rollout_buffer = self
        self.at = -1

    def get(self, timeout: float = 0.0) -> RolloutSample:
        """As of a queue."""
        self.at = (self.at + 1) % len(self.samples)
        return self.samples[self.at]

    def qsize(self) -> int:
        return len(self.samples)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def update_model_version(self, model_version: int) -> None: ...

    def check_health(self, stale_after_s: float) -> None: ...


class NoTransfer:
    """No inference server to send weights to."""

    def init_weight_transfer(self) -> None: ...

    def pause(self) -> None: ...

    def send_weights(self, iterator: Any) -> None: ...

    def resume(self) -> None: ...


def segment_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *, scaling: float, **tree: Any
) -> tuple[Tensor, None]:
    """Each segment of the row to the keys along its path, the last of them its own: lower-right causal attention."""
    index = tree["tree_kv_index"]
    sizes = torch.diff(tree["tree_cu_seqlens_q"]).tolist()
    key_sizes = torch.diff(tree["tree_cu_seqlens_k"]).tolist()
    # Gathered by token, as TRL does; split and not sliced, whose backward pass would fill a whole tensor each time.
    gathered = [
        part.transpose(1, 2)[0].index_select(0, index).transpose(0, 1)[None].split(key_sizes, dim=2)
        for part in (key, value)
    ]
    outputs = []
    for segment, keys, values in zip(query.split(sizes, dim=2), *gathered, strict=True):
        rows, width = segment.shape[2], keys.shape[2]
        mask = None if rows == width else torch.ones(rows, width, dtype=torch.bool).tril(width - rows)
        out = F.scaled_dot_product_attention(
            segment,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(out)
    return torch.cat(outputs, dim=2).transpose(1, 2), None
