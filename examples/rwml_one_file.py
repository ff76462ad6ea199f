"""All of RWML (arXiv 2602.05842) in one file, on torch and transformers alone: python examples/rwml_one_file.py

0. warm up       a model of random weights learns to read and write (a pretrained model needs no such step)
1. collect       the model plays in a house of text; every step is a transition (history, action, next state)
2. filter        a predictor learns from 10% of the transitions; most of what it predicts with ease is dropped
3. train-wm      GRPO on next states: reward 1 where the prediction is near the real next state (RWML, step 4)
4. train-policy  GRPO on whole episodes: reward 1 for a solved task (RWML, step 5)
5. evaluate      both abilities at each point of the way, in houses that no training saw

The package `rwml` does the same at scale; tests/examples/test_rwml_one_file.py holds this file to it: on one batch
losses and gradients are equal. Names carry shapes: _P prompts, _G answers to one prompt, _B rows, _T tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Config:
    seed: int = 0
    max_turns: int = 6
    warmup_steps: int = 200
    warmup_lr: float = 3e-3
    clumsiness: float = 0.5  # share of random actions in the play that the warm-up reads
    tasks: int = 32  # houses to collect in, `rollouts` times each
    rollouts: int = 2
    predictor_steps: int = 10  # on a tenth of the transitions
    predictions: int = 3  # K of the easy filter; it calls about as many easy as the paper's 30%
    keep_probability: float = 0.1  # of an easy transition
    tau_d: float = 0.2  # the largest sim-to-real gap that is rewarded; one wrong word is further off in our embedding
    wm_steps: int = 30
    wm_batch: int = 16
    policy_steps: int = 20
    policy_batch: int = 8
    group_size: int = 6
    updates: int = 1  # on one batch of samples
    lr: float = 7e-4
    clip: float = 0.2
    kl_weight: float = 0.01
    test_tasks: int = 64


PLACES = ("hall", "kitchen", "bedroom", "fridge", "chest")
HOME_OF = {"apple": "fridge", "book": "bedroom", "key": "chest"}  # where a thing mostly lies
TEST_SEEDS = 1_000_000  # houses from this seed on are for evaluation


class House:
    """One game: get hold of a thing. Things lie in rooms and in closed containers; the player must look for them."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.place_of = {t: home if chance.random() < 0.6 else chance.choice(PLACES) for t, home in HOME_OF.items()}
        self.thing = chance.choice(list(HOME_OF))
        self.at, self.closed = "hall", {"fridge", "chest"}
        self.opening = f"Task: take the {self.thing}. {self.look()}"

    def success(self) -> bool:
        return self.place_of[self.thing] == "hand"

    def look(self) -> str:
        if self.at in self.closed:
            return f"The {self.at} is closed."
        return f"In the {self.at}: {', '.join(t for t in self.place_of if self.place_of[t] == self.at) or 'nothing'}."

    def admissible(self) -> list[str]:
        here = [f"take {thing}" for thing, place in self.place_of.items() if place == self.at]
        return [f"go {p}" for p in PLACES if p != self.at] + ([f"open {self.at}"] if self.at in self.closed else here)

    def step(self, action: str) -> str:
        """Play one action, any string, and return the next state."""
        if action not in self.admissible():
            return "Nothing happens."
        verb, name = action.split()
        if verb == "take":
            self.place_of[name] = "hand"
            return f"You take the {name}."
        if verb == "open":
            self.closed.remove(name)
        self.at = name
        return self.look()


PIECE = re.compile(r"</?\w+>|\w+|[.,:?]")  # a token is a whole word, a tag or a sign
TAGS = "<pad> <end> <user> <assistant> <think> </think> <action> </action> <next_state> </next_state>"
TEXT = "Task take the The is closed In nothing Nothing happens You go open After . , : ?"
WORDS = [*TAGS.split(), *TEXT.split(), *PLACES, *HOME_OF]
ID_OF = {word: number for number, word in enumerate(WORDS)}
PAD, END = ID_OF["<pad>"], ID_OF["<end>"]


def encode(text: str) -> list[int]:
    return [ID_OF[word] for word in PIECE.findall(text)]


def between(tag: str, ids: Sequence[int]) -> str | None:
    """The text of an answer between <tag> and </tag>; None where the form is broken, which is never rewarded."""
    match = re.search(f"<{tag}> (.*?) ?</{tag}>", " ".join(WORDS[number] for number in ids))
    return re.sub(r" ([.,:?])", r"\1", match.group(1)) if match else None


class Row:
    """Tokens, and which of them are learnt from: an answer, or all messages of an episode."""

    def __init__(self, context: Sequence[int], answer: Sequence[int] = ()) -> None:
        self.ids, self.learnt = [*context, *answer], [False] * len(context) + [True] * len(answer)


@dataclass(frozen=True)
class Transition:
    history: tuple[str, ...]  # opening, action, observation, action, observation, ...
    action: str
    next_state: str

    def question(self) -> list[int]:
        """The world model's prompt: the history as the agent saw it, then the action whose outcome is asked for."""
        text = f"<user> {self.history[0]}"
        for action, observation in zip(self.history[1::2], self.history[2::2], strict=True):
            text += f" <end> <assistant> <action> {action} </action> <end> <user> {observation}"
        return encode(f"{text} After {self.action} ? <end> <assistant>")

    def label(self) -> list[int]:
        """The answer of supervised training. Its thought is empty and keeps its tags, so that RL may fill it later."""
        return encode(f"<think> </think> <next_state> {self.next_state} </next_state> <end>")


class Episode:
    """A game, its turns (opening, action, observation, ...) and the conversation as tokens."""

    def __init__(self, seed: int) -> None:
        self.house = House(seed)
        self.turns = [self.house.opening]
        self.row = Row(encode(f"<user> {self.house.opening} <end> <assistant>"))

    def play(self, message: Sequence[int]) -> None:
        action = between("action", message) or ""
        self.turns += [action, self.house.step(action)]
        closing = "" if message[-1] == END else "<end>"  # a message that was cut off did not close itself
        reply = encode(f"{closing} <user> {self.turns[-1]} <end> <assistant>")
        self.row.ids += [*message, *reply]
        self.row.learnt += [True] * len(message) + [False] * len(reply)

    def transitions(self) -> list[Transition]:
        """A turn without a readable action has nothing to ask about, and stays in the history of the later ones."""
        steps = range(1, len(self.turns), 2)
        return [Transition(tuple(self.turns[:i]), *self.turns[i : i + 2]) for i in steps if self.turns[i]]


def token_logprobs(model: LlamaForCausalLM, rows: Sequence[Row]) -> Tensor:
    """Log-probability of each token given those before it, [B, T]; 0 for the first one, which has none before it."""
    # Padding is on the right, where a causal model never looks. (The package lays rows that begin alike into one tree
    # and reads their common part once: the numbers are the same.)
    ids_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)
    logits = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    logp_BT = logits.log_softmax(-1).gather(-1, ids_BT[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(logp_BT, (1, 0))


def answer_coefficients(rows: Sequence[Row], num_answers: int) -> Tensor:
    """The weight of each token in the loss, [B, T]: the mean over an answer's tokens, then over all answers."""
    learnt_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row.learnt).double() for row in rows], batch_first=True)
    return learnt_BT / learnt_BT.sum(1, keepdim=True).clamp(min=1) / num_answers


def group_advantages(rewards_PG: Tensor) -> tuple[Tensor, Tensor]:
    """How much better each answer is than its group (GRPO, arXiv 2402.03300), [P, G], and which groups differ, [P]."""
    centred = rewards_PG.double() - rewards_PG.double().mean(1, keepdim=True)
    return centred / (rewards_PG.double().std(1, keepdim=True) + 1e-6), rewards_PG.amax(1) > rewards_PG.amin(1)


def sft_loss(model: LlamaForCausalLM, rows: Sequence[Row]) -> Tensor:
    return -(answer_coefficients(rows, len(rows)) * token_logprobs(model, rows)).sum()


class Learner:
    """A model in training, the frozen weights that it began with, and its optimiser."""

    def __init__(self, model: LlamaForCausalLM, config: Config, lr: float) -> None:
        self.model, self.reference, self.config = model, copy.deepcopy(model), config
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)

    def update(self, loss: Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def grpo_update(self, rows: Sequence[Row], rewards_PG: Tensor, label: str) -> None:
        old = copy.deepcopy(self.model) if self.config.updates > 1 else None
        for _ in range(self.config.updates):
            self.update(self.grpo_loss(rows, rewards_PG, old))
        signal = group_advantages(rewards_PG)[1].float().mean()  # where it stays near 0, nothing is learnt
        print(f"{label}: reward {rewards_PG.mean():.2f}, groups with signal {signal:.0%}")

    def grpo_loss(self, rows: Sequence[Row], rewards_PG: Tensor, old: LlamaForCausalLM | None = None) -> Tensor:
        """The same for predicted states and for whole episodes. old: the weights that sampled, None = those of now."""
        advantages_PG, has_signal_P = group_advantages(rewards_PG)
        # A group whose rewards are all equal teaches nothing: no pass is spent on it; in the mean its answers count.
        useful = has_signal_P.repeat_interleave(rewards_PG.shape[1])
        learnt = [row for row, has_signal in zip(rows, useful.tolist(), strict=True) if has_signal]
        if not learnt:
            return torch.zeros((), requires_grad=True)
        advantages_B1 = advantages_PG.reshape(-1, 1)[useful]
        logp_BT = token_logprobs(self.model, learnt)
        with torch.no_grad():
            ref_BT = token_logprobs(self.reference, learnt)
            old_BT = logp_BT if old is None else token_logprobs(old, learnt)
        ratio_BT = (logp_BT - old_BT.detach()).exp()
        clipped_BT = ratio_BT.clamp(1 - self.config.clip, 1 + self.config.clip)
        # The smaller gain of the two: a step that has gone too far wins nothing more, but can still be taken back.
        gain_BT = torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
        kl_BT = torch.expm1(ref_BT - logp_BT) - (ref_BT - logp_BT)  # never negative, right in the mean (k3)
        return (answer_coefficients(learnt, len(rows)) * (self.config.kl_weight * kl_BT - gain_BT)).sum()


@torch.no_grad()
def sample(model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], times: int = 1) -> list[list[int]]:
    """`times` answers to each prompt at temperature 1, each with the <end> that stopped it, if one did."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    how = {"do_sample": True, "top_k": 0, "max_new_tokens": 18, "pad_token_id": PAD, "eos_token_id": END}
    out = model.generate(ids, attention_mask=(ids != PAD).long(), num_return_sequences=times, **how)
    return [answer[: answer.index(END) + 1] if END in answer else answer for answer in out[:, width:].tolist()]


def play(model: LlamaForCausalLM, seeds: Sequence[int], max_turns: int) -> list[Episode]:
    """Play all games at once: the model writes one message a turn in each game that is not won yet."""
    episodes = [Episode(seed) for seed in seeds]
    for _ in range(max_turns):
        live = [episode for episode in episodes if not episode.house.success()]
        for episode, message in zip(live, sample(model, [e.row.ids for e in live]) if live else [], strict=True):
            episode.play(message)
    return episodes


def embed(text: str) -> Tensor:
    """Counts of words and of neighbours: enough for so small a world (RWML takes an embedding model)."""
    ids = torch.tensor([0, *encode(text)])
    return torch.bincount(torch.cat([ids[1:], len(WORDS) * ids[1:] + ids[:-1]]), minlength=len(WORDS) ** 2).double()


def gap(predicted: str | None, real: str) -> float:
    """The sim-to-real gap, 1 - cosine; 2, further than any other, for an answer that cannot be read."""
    return 2.0 if predicted is None else 1 - torch.cosine_similarity(embed(predicted), embed(real), dim=0).item()


def predict(model: LlamaForCausalLM, transitions: Sequence[Transition], times: int) -> tuple[list[Row], Tensor]:
    """`times` predicted next states of each transition as rows to learn from, and their sim-to-real gaps [P, G]."""
    answers = sample(model, [transition.question() for transition in transitions], times)
    asked = [transition for transition in transitions for _ in range(times)]
    gaps = [gap(between("next_state", answer), t.next_state) for t, answer in zip(asked, answers, strict=True)]
    rows = [Row(transition.question(), answer) for transition, answer in zip(asked, answers, strict=True)]
    return rows, torch.tensor(gaps).reshape(-1, times)


def warm_up(config: Config) -> LlamaForCausalLM:
    """A small Llama that has read transcripts of clumsy play, every token of them, as in pretraining."""
    shape = {"vocab_size": len(WORDS), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "tie_word_embeddings": True, "initializer_range": 0.1}
    model = LlamaForCausalLM(LlamaConfig(**shape))
    learner, chance = Learner(model, config, config.warmup_lr), random.Random(config.seed)
    for _ in range(config.warmup_steps):
        rows = []
        for episode in map(Episode, chance.sample(range(TEST_SEEDS), 8)):
            while len(episode.turns) < 2 * config.max_turns and not episode.house.success():
                house, actions = episode.house, episode.house.admissible()
                useful = [action for action in actions if action in (f"open {house.at}", f"take {house.thing}")]
                action = chance.choice(useful if useful and chance.random() >= config.clumsiness else actions)
                episode.play(encode(f"<action> {action} </action> <end>"))
            asked = chance.choice(episode.transitions())
            rows += [Row([], episode.row.ids), Row([], asked.question() + asked.label())]
        learner.update(sft_loss(model, rows))
    return model


def easy_filter(model: LlamaForCausalLM, transitions: list[Transition], config: Config) -> list[Transition]:
    """Drop most of what a separate predictor, trained on a tenth of the rows, gets right in all of K tries."""
    chance = random.Random(config.seed)
    shuffled, size = chance.sample(transitions, len(transitions)), len(transitions) // 10
    own, asked = shuffled[:size], shuffled[size:]
    predictor = Learner(copy.deepcopy(model), config, config.lr)
    for _ in range(config.predictor_steps):
        rows = [Row(t.question(), t.label()) for t in chance.choices(own, k=16)]
        predictor.update(sft_loss(predictor.model, rows))
    is_easy = (predict(predictor.model, asked, config.predictions)[1] < config.tau_d).all(1).tolist()
    kept = [t for t, easy in zip(asked, is_easy, strict=True) if not easy or chance.random() < config.keep_probability]
    print(f"filter: {len(transitions)} transitions, {sum(is_easy)} easy, {len(asked) - len(kept)} dropped")
    return own + kept


def train_wm(model: LlamaForCausalLM, transitions: list[Transition], config: Config) -> None:
    """RWML: GRPO on predicted next states. No expert, no judge, no task reward."""
    learner, chance = Learner(model, config, config.lr), random.Random(config.seed)
    for step in range(1, config.wm_steps + 1):
        asked = chance.sample(transitions, min(config.wm_batch, len(transitions)))
        rows, gaps_PG = predict(model, asked, config.group_size)
        learner.grpo_update(rows, (gaps_PG < config.tau_d).float(), f"train-wm {step}/{config.wm_steps}")


def train_policy(model: LlamaForCausalLM, config: Config) -> None:
    """GRPO on task success: one reward for a whole episode, on all tokens that the model wrote in it."""
    learner, chance = Learner(model, config, config.lr), random.Random(config.seed)
    for step in range(1, config.policy_steps + 1):
        houses = chance.sample(range(TEST_SEEDS), config.policy_batch)
        episodes = play(model, [seed for seed in houses for _ in range(config.group_size)], config.max_turns)
        success_PG = torch.tensor([float(e.house.success()) for e in episodes]).reshape(-1, config.group_size)
        learner.grpo_update([e.row for e in episodes], success_PG, f"train-policy {step}/{config.policy_steps}")


def main(config: Config) -> dict[str, tuple[float, float]]:
    """Take all steps, print a table, and return {model: (prediction reward, success)}."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)  # matrices this small gain nothing from a second thread
    model, table = warm_up(config), {}
    test_seeds = range(TEST_SEEDS, TEST_SEEDS + config.test_tasks)
    held_out = [t for episode in play(model, test_seeds, config.max_turns) for t in episode.transitions()]

    def evaluate(name: str) -> None:
        reward = (predict(model, held_out, 1)[1] < config.tau_d).float().mean().item()
        won = [episode.house.success() for episode in play(model, test_seeds, config.max_turns)]
        table[name] = reward, sum(won) / len(won)

    evaluate("after the warm-up")
    collected = play(model, [seed for seed in range(config.tasks) for _ in range(config.rollouts)], config.max_turns)
    kept = easy_filter(model, [t for episode in collected for t in episode.transitions()], config)
    train_wm(model, kept, config)
    evaluate("RWML")
    train_policy(model, config)
    evaluate("RWML + policy RL")
    print(f"{'':20}prediction reward   success")
    for name, (reward, success) in table.items():
        print(f"{name:20}{reward:17.1%}   {success:7.1%}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The whole of RWML in one file.")
    for setting in fields(Config):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=type(setting.default), default=setting.default)
    main(Config(**vars(parser.parse_args())))
