"""Where the time of one world-model training step goes: sampling, reward and update, by part.

The step is `stages/train_wm.py`'s, of the quickstart's shapes: --prompts transitions of whole episodes in small scenes,
G answers sampled by the model that ships with rwml, the embedding reward (--cold: nothing known from earlier steps),
GRPO with a KL term on the groups that have signal. Parts are functions of the package with a clock around each; a
part's time leaves out the parts that it calls, so the shares add up to 1.

    OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 python benchmarks/profile_step.py --out profile.json

CPU seconds, medians over the steps; the last line is `step_s: N`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

NAMED_FROM = 0.05


class Clock:
    """CPU seconds of each part, without those of the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts: list[str] = []
        self._since = 0.0

    def _turn(self, push: str | None) -> None:
        now = time.process_time()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        if push is None:
            self._parts.pop()
        else:
            self._parts.append(push)
        self._since = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn(name)
        try:
            yield
        finally:
            self._turn(None)

    @contextmanager
    def around(self, owner: Any, attribute: str, name: str | Callable[[], str]) -> Iterator[None]:
        """Put the clock around a function for a while."""
        before = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name()):
                return before(*args, **kwargs)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            setattr(owner, attribute, before)

    @property
    def phase(self) -> str:
        """The outermost part that runs now."""
        return self._parts[0].split(":")[0] if self._parts else ""

    def inside(self, name: str) -> bool:
        return name in self._parts


@contextmanager
def clocks(clock: Clock) -> Iterator[None]:
    """The parts, as they are named in docs/results/performance.md."""
    from rwml.models.chat import ChatFormat
    from rwml.models.embedding.minilm import MiniLM
    from rwml.models.sampling import sampler
    from rwml.models.sampling.kv import SharedPrefixCache
    from rwml.models.sampling.prefix_attention import RowsPass, TrunkPass
    from rwml.train import trainer
    from rwml.trees import attention as tree_attention
    from rwml.trees import forward
    from rwml.world_models import language

    reference = "update: reference pass"

    def linear() -> str:
        if clock.inside(reference):
            return reference
        return "update: linear layers, forward" if clock.phase == "update" else "sampling: linear layers"

    def attention() -> str:
        return reference if clock.inside(reference) else "update: attention, forward"

    def hidden() -> str:
        return reference if clock.inside(reference) else "update: norms, rotary and gates, forward"

    with ExitStack() as stack:
        for owner, attribute, name in (
            (language, "question_ids", "sampling: prompts to tokens"),
            (SharedPrefixCache, "add_trunks", "sampling: prefill, the rest"),
            (SharedPrefixCache, "feed", "sampling: prefill, the rest"),
            (SharedPrefixCache, "step", "sampling: norms, rotary, gates, cache"),
            (SharedPrefixCache, "select", "sampling: rows taken out of the batch"),
            (RowsPass, "attend", "sampling: attention"),
            (TrunkPass, "attend", "sampling: attention"),
            (sampler, "pick", "sampling: choosing tokens"),
            (ChatFormat, "decode", "sampling: tokens to text"),
            (MiniLM, "encode", "reward: embedding"),
            (trainer, "tree_logprobs", reference),
            (forward._TreePass, "hidden", hidden),
            (forward._Head, "logp", "update: vocabulary, forward"),
            (tree_attention, "cpu_attend", attention),
            (tree_attention, "cpu_attend_backward", "update: attention, backward"),
            (torch.autograd, "backward", "update: backward without attention"),
            (torch.Tensor, "backward", "update: backward without attention"),
            (torch.optim.AdamW, "step", "update: optimiser"),
            (torch.nn.Linear, "forward", linear),
        ):
            stack.enter_context(clock.around(owner, attribute, name))
        yield


def make_step(args: argparse.Namespace, folder: Path) -> Callable[[Clock, int], dict[str, float]]:
    """A step, as `stages/train_wm.py` makes it."""
    from rwml.core.recipe.sections import TrainWmConfig
    from rwml.core.records import MetricsLog
    from rwml.core.seeds import generator_for
    from rwml.models.embedding.embedder import Embedder
    from rwml.models.language_model import load_language_model
    from rwml.models.sampling.local import local_sampler
    from rwml.models.sampling.sampler import SamplingParams
    from rwml.playing.rollout import play_built_in, seats_for
    from rwml.rewards.rewards import EmbeddingReward
    from rwml.train.batches import answer_trees
    from rwml.train.trainer import PolicyLoss, Trainer, TrainingLog
    from rwml.world_models.language import LanguageWorldModel
    from rwml.worlds.by_name import get_world
    from rwml.worlds.transitions import transitions_of

    world = get_world("alfworld", source="scenes", size=args.size, num_train=64)
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, 0), "noisy", args.steps_per_episode)
    rows = [row for episode in episodes for row in transitions_of(episode, world, "train")]
    lm, prompts = load_language_model("tiny", device="cpu"), world.prompts("brief")
    config = TrainWmConfig(kl_weight=0.02, learning_rate=1e-30, group_size=args.group, max_new_tokens=80)
    log = TrainingLog(folder, MetricsLog(folder / "metrics.jsonl"), "profile", 0)
    trainer = Trainer(lm, config, log, PolicyLoss.of(config))
    sampler = local_sampler(lm)
    model = LanguageWorldModel(lm, sampler, prompts, SamplingParams(max_new_tokens=80), 10**9)
    kept = Embedder()

    def step(clock: Clock, number: int) -> dict[str, float]:
        first = number * args.prompts % (len(rows) - args.prompts)
        batch, embedder = rows[first : first + args.prompts], Embedder() if args.cold else kept
        known = embedder.stats.embedded
        with clock.part("sampling: the rest"):
            queries = [row.query for row in batch]
            answers = model.predict(queries, args.group, generator_for("profile", number))
        with clock.part("reward: the rest"):
            flat = [answer.next_state for group in answers for answer in group]
            real = [row.next_state for row in batch for _ in range(args.group)]
            _, rewards = EmbeddingReward(embedder, 0.1).score(flat, real)
        with clock.part("update: the rest"):
            scored = answer_trees(lm, prompts, batch, answers, rewards.reshape(-1, args.group), config)
            trainer._update(scored.trees, 0)
        tokens = sum(len(answer.ids) for group in answers for answer in group)
        return {
            "signal_share": scored.signal_share,
            "answer_tokens": tokens / len(flat),
            "tree_tokens": float(sum(tree.num_tokens for tree in scored.trees)),
            "embedded": float(embedder.stats.embedded - known),
        }

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--steps-per-episode", type=int, default=12)
    parser.add_argument("--size", default="tiny", help="of the scenes")
    parser.add_argument("--cold", action="store_true", help="a new embedder for every step")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the figures here (JSON)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs, facts = [], []
    with tempfile.TemporaryDirectory() as folder:
        step = make_step(args, Path(folder))
        step(Clock(), 0)
        for number in range(args.repeats):
            clock = Clock()
            with clocks(clock):
                facts.append(step(clock, number + 1))
            runs.append(clock.seconds)
    totals = [sum(run.values()) for run in runs]
    names = {name for run in runs for name in run}
    pairs = list(zip(runs, totals, strict=True))
    shares = {name: statistics.median(run.get(name, 0.0) / total for run, total in pairs) for name in names}
    known = {key: statistics.median(fact[key] for fact in facts) for key in facts[0]}
    for phase in ("sampling", "reward", "update"):
        own = [sum(s for name, s in run.items() if name.startswith(phase)) for run in runs]
        share = statistics.median(part / total for part, total in zip(own, totals, strict=True))
        print(f"{phase:48}{statistics.median(own):8.3f} s{share:8.1%}")
        small = 0.0
        for name in sorted((n for n in names if n.startswith(phase)), key=lambda n: -shares[n]):
            if shares[name] >= NAMED_FROM:
                print(f"  {name.split(': ')[1]:46}{'':10}{shares[name]:8.1%}")
            else:
                small += shares[name]
        print(f"  {'parts below 5% each':46}{'':10}{small:8.1%}")
    print(", ".join(f"{key} {value:.2f}" for key, value in known.items()))
    if args.out:
        figures = {"seconds": [dict(run) for run in runs], "shares": shares, **known}
        args.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"step_s: {statistics.median(totals):.3f}")


if __name__ == "__main__":
    main()
