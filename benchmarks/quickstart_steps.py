"""A world-model step and a policy step of the quickstart, ours beside the plain way, and what all of them take.

The plain way is what one writes with the libraries alone: `generate` on the left-padded batch (for play: on all live
conversations again, every turn), `SentenceTransformer.encode` on both sides of every pair, and separate right-padded
sequences of similar length, 16 at a time, through transformers for reference, forward and backward pass, the vocabulary
projected where a loss needs it. Each side samples its own answers from the same weights, and plays its own episodes.

    OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 python benchmarks/quickstart_steps.py --out quickstart_steps.json

Seconds are CPU seconds with one thread, medians of --repeats for ours; the plain way runs once. The last line is
`ratio: N`: the plain way over ours for all world-model and policy steps of the quickstart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reward import naive_scorer
from rwml.core.recipe.recipe import Recipe, load_recipe
from rwml.core.records import MetricsLog
from rwml.core.seeds import generator_for
from rwml.core.types import PredictedState, Transition
from rwml.loading import load_embedder, load_model, load_world, policy_of, sampler_of
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Completion, SamplingParams
from rwml.playing.rollout import LanguageModelPolicy, SampledEpisode, seats_for
from rwml.rewards.rewards import EmbeddingReward
from rwml.stages.pipeline import find_recipe
from rwml.train.batches import answer_trees, episode_trees
from rwml.train.trainer import PolicyLoss, Trainer, TrainingLog
from rwml.trees.objectives import group_advantages
from rwml.world_models.language import LanguageWorldModel, question_ids
from rwml.worlds.transitions import transitions_of

PLAIN_ROWS = 16
Parts = dict[str, float]


def timed(parts: Parts, name: str, work: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = work()
    parts[name] = parts.get(name, 0.0) + time.process_time() - start
    return result


class GenerateSampler:
    """A `Sampler` by `generate`: the same calls, and each reads the whole contexts again."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def rows(self, contexts: Sequence[Sequence[int]], params: SamplingParams) -> list[Completion]:
        """One completion of each context."""
        width, pad = max(map(len, contexts)), self.lm.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(c)) + list(c) for c in contexts])
        mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts])
        stop = sorted(self.lm.chat.stop_ids)
        options = {"do_sample": True, "temperature": params.temperature, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode():
            out = self.lm.model.generate(
                ids, attention_mask=mask, max_new_tokens=params.max_new_tokens, eos_token_id=stop, **options
            )
        completions = []
        for row in out[:, width:].tolist():
            end = next((i + 1 for i, token in enumerate(row) if token in stop), len(row))
            completions.append(Completion(tuple(row[:end]), end == len(row) and row[-1] not in stop))
        return completions

    def sample(self, prompts: Any, num: int, params: SamplingParams, generator: torch.Generator) -> Any:
        """As `Sampler.sample`."""
        del generator
        flat = self.rows([prompt for prompt in prompts for _ in range(num)], params)
        return [flat[i : i + num] for i in range(0, len(flat), num)]

    def session(self, prompts: Sequence[Sequence[int]]) -> GenerateSampler._Session:
        """As `Sampler.session`."""
        return self._Session(self, [list(prompt) for prompt in prompts])

    class _Session:
        def __init__(self, sampler: GenerateSampler, contexts: list[list[int]]) -> None:
            self.sampler, self.contexts = sampler, contexts

        def sample(self, rows: Sequence[int], params: SamplingParams, generator: Any) -> list[Completion]:
            del generator
            completions = self.sampler.rows([self.contexts[row] for row in rows], params)
            for row, completion in zip(rows, completions, strict=True):
                self.contexts[row] += completion.ids
            return completions

        def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
            for row, more in zip(rows, ids, strict=True):
                self.contexts[row] += more

        def drop(self, rows: Sequence[int]) -> None:
            """Rows that are not asked for cost nothing."""


def plain_update(trainer: Trainer, sequences: Sequence[tuple[list[int], np.ndarray]]) -> None:
    """GRPO on separate sequences: (ids [T], weight of each token's log-probability [T])."""
    model, reference = trainer.lm.model, trainer.reference
    order = sorted(sequences, key=lambda one: len(one[0]))
    for start in range(0, len(order), PLAIN_ROWS):
        rows = order[start : start + PLAIN_ROWS]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([one + [0] * (width - len(one)) for one, _ in rows])
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one, _ in rows])
        weight = torch.from_numpy(np.array([np.pad(w, (0, width - len(w))) for _, w in rows], dtype=np.float32))
        places = weight[:, 1:] != 0

        def logp(model: Any) -> torch.Tensor:
            hidden = model.model(ids, attention_mask=mask).last_hidden_state[:, :-1][places]  # noqa: B023
            return model.lm_head(hidden).log_softmax(-1).gather(1, ids[:, 1:][places][:, None])[:, 0]  # noqa: B023

        with torch.no_grad():
            held = logp(reference)
        new = logp(model)
        gap = held - new
        kl = gap.exp() - gap - 1
        scale = weight[:, 1:][places]
        loss = -(scale * (new - new.detach()).exp()).sum() + trainer.policy_loss.kl_weight * (scale.abs() * kl).sum()
        loss.backward()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()


class Steps:
    """The quickstart's model, world, transitions and trainers."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.world = recipe, load_world(recipe)
        self.lm = load_model(recipe.model)
        self.prompts = self.world.prompts(recipe.model.prompts)
        tasks = self.world.tasks("train")[: recipe.collect.num_tasks]
        self.policy = self._policy(32)
        played = self.policy.play(self.world, seats_for(tasks, 1, 0), generator_for("steps"))
        self.rows = [row for one in played for row in transitions_of(one.episode, self.world, "train")]
        self.folder, self.log = folder, MetricsLog(folder / "metrics.jsonl")
        self.embedder = load_embedder(recipe.embedding, None)
        self.plain_score = naive_scorer()

    def _policy(self, max_new_tokens: int) -> LanguageModelPolicy:
        params = SamplingParams(max_new_tokens, 1.0)
        return policy_of(self.recipe, self.lm, params, self.recipe.train_policy.episode_max_steps)

    def trainer(self, config: Any) -> Trainer:
        still = config.model_copy(update={"learning_rate": 1e-30})
        log = TrainingLog(self.folder, self.log, "steps", 0)
        return Trainer(self.lm, still, log, PolicyLoss.of(config))

    def world_model(self, number: int, *, plain: bool) -> Parts:
        """Sampling, reward and update of one world-model step."""
        config, parts = self.recipe.train_wm, Parts()
        size, group = config.batch_size, config.group_size
        batch = self.rows[number * size : (number + 1) * size]
        trainer = self.trainer(config)
        sampler: Any = GenerateSampler(self.lm) if plain else sampler_of(self.lm, self.recipe.model)
        params = SamplingParams(config.max_new_tokens, 1.0)
        generator = generator_for("answers", number)
        model = LanguageWorldModel(self.lm, sampler, self.prompts, params, 10**9)
        queries = [row.query for row in batch]
        answers = timed(parts, "sampling", lambda: model.predict(queries, group, generator))
        rewards = timed(parts, "reward", lambda: self._rewards(batch, answers, plain=plain)).reshape(-1, group)
        if plain:
            sequences = self._sequences(batch, answers, rewards)
            timed(parts, "update", lambda: plain_update(trainer, sequences))
        else:
            scored = answer_trees(self.lm, self.prompts, batch, answers, rewards, config)
            timed(parts, "update", lambda: trainer._update(scored.trees, 0))
        return parts

    def _rewards(
        self, batch: Sequence[Transition], answers: Sequence[Sequence[PredictedState]], *, plain: bool
    ) -> np.ndarray:
        tau_d = self.recipe.train_wm.tau_d or 0.2
        if plain:
            groups = [(row.next_state, [a.next_state for a in g]) for row, g in zip(batch, answers, strict=True)]
            return (self.plain_score(groups) < tau_d).astype(np.float32)
        real = [row.next_state for row, group in zip(batch, answers, strict=True) for _ in group]
        return EmbeddingReward(self.embedder, tau_d).score([a.next_state for g in answers for a in g], real)[1]

    def _sequences(self, batch: Any, answers: Any, rewards: np.ndarray) -> list[tuple[list[int], np.ndarray]]:
        advantages, _ = group_advantages(torch.from_numpy(rewards), "std")
        sequences = []
        for row, group, own in zip(batch, answers, advantages.tolist(), strict=True):
            question = question_ids(self.lm.chat, self.prompts, row)
            for answer, advantage in zip(group, own, strict=True):
                weight = np.zeros(len(question) + len(answer.ids))
                weight[len(question) :] = (advantage or 1e-30) / len(answer.ids)
                sequences.append(([*question, *answer.ids], weight))
        return sequences

    def policy(self, number: int, *, plain: bool) -> Parts:
        """Play and update of one policy step."""
        config, parts = self.recipe.train_policy, Parts()
        tasks = self.world.tasks(config.split)[number * config.tasks_per_step :][: config.tasks_per_step]
        policy = self._policy(config.max_new_tokens)
        if plain:
            policy = LanguageModelPolicy(
                self.lm, GenerateSampler(self.lm), self.prompts, policy.params, policy.max_steps, policy.max_context
            )  # type: ignore[arg-type]
        seats = seats_for(tasks, config.group_size, number)
        played: list[SampledEpisode] = timed(
            parts, "play", lambda: policy.play(self.world, seats, generator_for("play", number))
        )
        groups = [played[i : i + config.group_size] for i in range(0, len(played), config.group_size)]
        noise = np.random.default_rng(number).random((len(groups), config.group_size), dtype=np.float32)
        trainer = self.trainer(config)  # returns of all groups differ, so that both sides train on every episode
        if plain:
            sequences = [(p.ids, np.where(p.sampled, 0.5 / max(1, sum(p.sampled)), 0.0)) for p in played]
            timed(parts, "update", lambda: plain_update(trainer, sequences))
        else:
            trees = episode_trees(groups, noise, config).trees
            timed(parts, "update", lambda: trainer._update(trees, 0))
        return parts


def medians(runs: Sequence[Parts]) -> Parts:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(find_recipe("quickstart"))
    counts = {"world-model step": recipe.train_wm.max_steps, "policy step": recipe.train_policy.steps}
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(recipe, Path(folder))
        measured = {}
        for name, run in (("world-model step", steps.world_model), ("policy step", steps.policy)):
            ours = medians([run(number, plain=False) for number in range(args.repeats)])
            measured[name] = {"ours": ours, "plain": run(0, plain=True)}
    total = {side: sum(counts[name] * sum(parts[side].values()) for name, parts in measured.items()) for side in
             ("ours", "plain")}  # fmt: skip
    for name, sides in measured.items():
        for side, parts in sides.items():
            seconds_by_part = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts.items())
            print(f"{name:18}{side:7}{sum(parts.values()):9.2f} s   {seconds_by_part}")
    print(f"all steps of the quickstart: ours {total['ours'] / 60:.1f} min, plain {total['plain'] / 60:.1f} min")
    if args.out:
        args.out.write_text(json.dumps({"steps": measured, "total_s": total}, indent=2) + "\n")
    print(f"ratio: {total['plain'] / total['ours']:.1f}")


if __name__ == "__main__":
    main()
