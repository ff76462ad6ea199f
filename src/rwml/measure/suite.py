"""The measures of a run, with everything that its checkpoints are measured on: the same for each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import folder_hash, read_sealed, write_sealed
from rwml.core.progress import note
from rwml.core.recipe.sections import MEASURES, HeldOutWorld, MeasureConfig
from rwml.core.records import read_records, write_records
from rwml.core.seeds import generator_for, seed_of
from rwml.core.types import Episode, Transition
from rwml.exchange.episode_folder import imported_episodes
from rwml.measure.harness import check_harness, measure_lm_eval
from rwml.measure.plans import LEFT_OUT, leave_one_out, measure_plans
from rwml.measure.retention import measure_text, measure_transitions, read_corpus
from rwml.measure.rollouts import measure_rollouts
from rwml.models.language_model import LanguageModel
from rwml.playing.failures import failures, say_failures
from rwml.playing.policies import Policy, has_policy, play_seats
from rwml.playing.rollout import seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.imagination import Imagination
from rwml.world_models.language import LanguageWorldModel
from rwml.worlds.answers import tasks_of
from rwml.worlds.base import World
from rwml.worlds.by_name import world_of
from rwml.worlds.transitions import transitions_of

# The settings in [measure] that each measure depends on.
_PLAYED = ("splits", "policies", "num_episodes", "leave_one_out")
_ASKED = ("temperature", "max_new_tokens", "bootstrap_samples")
_READS = {
    "rollouts": (*_PLAYED, *_ASKED, "depth"),
    "plans": (*_PLAYED, *_ASKED),
    "held_out": (*_ASKED, "held_out", "num_transitions"),
    "text": ("corpus", "bootstrap_samples"),
    "lm_eval": ("lm_eval", "lm_eval_limit"),
}
# Scenes that a small model's context holds, for runs that name no held-out world.
_OTHER_SIZES = ("tiny", "small", "medium")


@dataclass(frozen=True, slots=True)
class MeasureSetup:
    """What all checkpoints of a run are measured by.

    config: the section [measure]. world_options: of `world`. seed: of the run. history_steps: H of the queries, None
    is all. max_context: tokens of a model's context. imported: folder of imported episodes, "" = episodes are played.
    policy: the policy of a name, for a world and a number of steps per episode, 0 = the recipe's; "model" is the model
    before training. model: a loaded model as a world model of a world. load: a checkpoint, None = the model before
    training. depends_on: further settings that the figures depend on, as plain JSON.
    """

    config: MeasureConfig
    world: World
    world_options: Mapping[str, Any]
    seed: int
    history_steps: int | None
    max_context: int
    imported: str
    policy: Callable[[str, World, int], Policy]
    model: Callable[[LanguageModel, World], LanguageWorldModel]
    load: Callable[[Path | None], LanguageModel]
    depends_on: Mapping[str, Any]

    def settings(self, keys: Sequence[str]) -> dict[str, Any]:
        """The settings that a measure depends on. keys: those of the section [measure]."""
        measure = self.config.model_dump(mode="json")
        return {"rwml": rwml.__version__, "measure": {key: measure[key] for key in keys}, **self.depends_on}


class MeasureContext:
    """The measures of a run's section [measure], taken of one model after another.

    folder: keeps what is measured, and the episodes, which the model before training, the expert and others play once.
    reward: the training reward with its threshold, by which imagined next states count as right. Raises RwmlError if
    the recipe asks for lm-evaluation-harness without it being installed, and if the corpus cannot be read.
    """

    def __init__(self, setup: MeasureSetup, folder: Path, reward: KindReward) -> None:
        self.setup, self.config, self.folder, self.reward = setup, setup.config, folder, reward
        self.world = setup.world
        self.passages = read_corpus(self.config.corpus)
        if self.config.lm_eval:
            check_harness()

    def wanted(self) -> tuple[str, ...]:
        """The measures of a checkpoint that this recipe asks for."""
        return tuple(name for name in MEASURES if name != "lm_eval" or self.config.lm_eval)

    def measure(self, name: str, lm: LanguageModel) -> dict[str, Any]:
        """One of `MEASURES` of a model, as plain JSON; seeds do not depend on the model."""
        return dict(getattr(self, name)(lm))

    def rollouts(self, lm: LanguageModel) -> dict[str, Any]:
        """Imagined courses compared with real ones, step by step (`measure_rollouts`)."""
        episodes = [e for source, group in self.episodes.items() if source != LEFT_OUT for e in group if not e.error]
        generator, config = generator_for(self.setup.seed, "measure", "rollouts"), self.config
        imagination, samples = self._imagination(lm), config.bootstrap_samples
        return measure_rollouts(imagination, self.reward, episodes, config.depth, generator, num_samples=samples)

    def plans(self, lm: LanguageModel) -> dict[str, Any]:
        """Whole plans in imagination and in reality (`measure_plans`)."""
        generator = generator_for(self.setup.seed, "measure", "plans")
        return measure_plans(self._imagination(lm), self.episodes, generator, self.config.bootstrap_samples)

    def held_out(self, lm: LanguageModel) -> dict[str, Any]:
        """Loss and accuracy on the transitions of worlds that training did not show: {world: `measure_transitions`}."""
        measured = {}
        for label, (world, rows) in self.held_out_rows.items():
            model, generator = self.setup.model(lm, world), generator_for(self.setup.seed, "measure", label)
            measured[label] = measure_transitions(model, rows, generator, self.config.bootstrap_samples)
        return measured

    def text(self, lm: LanguageModel) -> dict[str, Any]:
        """Loss on plain text (`measure_text`)."""
        return measure_text(lm, self.passages, self.setup.max_context, self.config.bootstrap_samples)

    def lm_eval(self, lm: LanguageModel) -> dict[str, Any]:
        """Tasks of lm-evaluation-harness (`measure_lm_eval`)."""
        return measure_lm_eval(lm, self.config.lm_eval, self.config.lm_eval_limit)

    def _imagination(self, lm: LanguageModel) -> Imagination:
        return Imagination(self.setup.model(lm, self.world), self.world, self.setup.history_steps)

    @cached_property
    def episodes(self) -> dict[str, list[Episode]]:
        """Held-out episodes by who played them; with imported episodes in the recipe, only those.

        Raises RwmlError if no episode is held out.
        """
        if self.setup.imported:
            return {"imported": self._imported()}
        by_policy: dict[str, list[Episode]] = {}
        for policy in self.config.policies:
            if not has_policy(policy, self.world):
                known = ", ".join(self.world.policies()) or "none"
                note(f"measure: the world {self.world.name} has no policy '{policy}' ({known}); it is left out")
                continue
            played = [episode for split in self.config.splits for episode in self._played(split, policy)]
            say_failures(f"measure: played by {policy}", failures(played), len(played))
            by_policy[policy] = played
        if self.config.leave_one_out:
            by_policy[LEFT_OUT] = self._kept("left-out", lambda: list(self._left_out(by_policy)))
        if not any(by_policy.values()):
            raise RwmlError(
                f"nobody plays held-out episodes: measure.policies = {list(self.config.policies)}",
                "a world model's imagination is compared with what really happened",
                "name policies that the world has, or model, and splits with tasks (measure.splits)",
            )
        return by_policy

    def _imported(self) -> list[Episode]:
        folder, name, splits = self.setup.imported, self.world.name, self.config.splits
        episodes = imported_episodes(folder)
        groups = {split: [e for e in episodes if (e.task.world, e.task.split) == (name, split)] for split in splits}
        if not any(groups.values()):
            held = ", ".join(sorted({f"{episode.task.world}/{episode.task.split}" for episode in episodes}))
            raise RwmlError(
                f"'{folder}' holds no episodes of the world {name} in the splits {', '.join(splits)} (measure.splits)",
                "a world model's imagination is compared with what really happened",
                f"it holds {held}: set measure.splits to splits of the world {name}, or hold some of its tasks out "
                "(`rwml import --hold-out`)",
            )
        for split in (split for split, group in groups.items() if not group):
            note(f"measure: '{folder}' holds no episodes of the world {name} in the split '{split}'")
        return [episode for group in groups.values() for episode in group[: self.config.num_episodes]]

    @cached_property
    def imported(self) -> dict[str, str]:
        """The hash of the imported episodes, which differs between imports into one folder; empty if episodes are
        played."""
        folder = self.setup.imported
        return {"imported": folder_hash(Path(folder).expanduser())} if folder else {}

    def _played(self, split: str, policy: str) -> list[Episode]:
        setup, tasks = self.setup, tasks_of(self.world, split)[: self.config.num_episodes]
        seats = seats_for(tasks, 1, seed_of(setup.seed, "measure", "play"))
        # Before training: every checkpoint is asked about the same episodes.
        generator = generator_for(setup.seed, "measure", "play", split, policy)
        return self._kept(
            f"{split}-{policy.replace(':', '-')}",
            lambda: play_seats(self.world, seats, setup.policy(policy, self.world, 0), generator),
        )

    def _left_out(self, by_policy: Mapping[str, Sequence[Episode]]) -> Iterator[Episode]:
        """A variant of one won episode of each task, the first one that can spare a step."""
        generator, done = generator_for(self.setup.seed, "measure", "left out"), set[str]()
        for episode in (e for group in by_policy.values() for e in group):
            if episode.success and len([s for s in episode.steps if s.parsed]) > 1 and episode.task.id not in done:
                done.add(episode.task.id)
                yield leave_one_out(self.world, episode, generator)

    def _kept(self, name: str, play: Any) -> list[Episode]:
        path = self.folder / _key(self.setup.settings(_PLAYED)) / f"episodes-{name}.parquet"
        if not path.exists():
            write_records(path, play(), Episode)
        return read_records(path, Episode)

    @cached_property
    def held_out_rows(self) -> dict[str, tuple[World, list[Transition]]]:
        """The held-out worlds by label, with the transitions that are asked."""
        chosen = self.config.held_out or self._other_sizes()
        return {_label(held_out, number): self._rows(held_out) for number, held_out in enumerate(chosen)}

    def _other_sizes(self) -> tuple[HeldOutWorld, ...]:
        own = ""
        if self.world.name == "alfworld":
            options = self.setup.world_options
            own = "official" if options.get("source") == "official" else str(options.get("size", "small"))
        few = {"num_train": 1, "num_valid_seen": 1, "num_valid_unseen": 20}
        return tuple(HeldOutWorld(options={"size": size, **few}) for size in _OTHER_SIZES if size != own)

    def _rows(self, one: HeldOutWorld) -> tuple[World, list[Transition]]:
        world, history, seed = world_of(one.name, one.options), self.setup.history_steps, self.setup.seed
        seats = seats_for(tasks_of(world, one.split)[: one.num_episodes], 1, seed_of(seed, "measure", "held out"))
        generator = generator_for(seed, "measure", "held out", one.policy)
        rows = [
            row
            for episode in play_seats(world, seats, self.setup.policy(one.policy, world, one.max_steps), generator)
            for row in transitions_of(episode, world, one.split, history)
        ]
        return world, rows[: self.config.num_transitions]


class KeptMeasures:
    """The measures of one checkpoint: each is taken once under the same settings and of the same weights, and kept in
    the folder of `context`, with its rows.

    path: where the checkpoint lies; None: the recipe's model. weights: its hash. name: of its folder in there.
    """

    def __init__(self, context: MeasureContext, path: Path | None, weights: str, name: str) -> None:
        self.context, self.checkpoint, self.folder = context, path, context.folder / name
        self.same: dict[str, Any] = {"weights": weights}
        self.of_measure: dict[str, dict[str, Any]] = {
            "rollouts": {"tau_d": context.reward.tau_d, "reward": context.reward.choice, **context.imported},
            "plans": context.imported,
            "text": {"passages": context.passages},
        }

    def path(self, name: str) -> Path:
        """Where a measure lies; the name follows from all that it depends on."""
        settings = self.context.setup.settings(_READS[name]) | self.same | self.of_measure.get(name, {})
        return self.folder / f"{name}-{_key(settings)}.json"

    def measure(self, name: str) -> dict[str, Any]:
        """One of `MEASURES`, as it was kept or measured now."""
        path = self.path(name)
        if not path.exists():
            write_sealed(path, self.context.measure(name, self._lm))
        return read_sealed(path)

    @cached_property
    def _lm(self) -> LanguageModel:
        return self.context.setup.load(self.checkpoint)


def _key(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _label(one: HeldOutWorld, number: int) -> str:
    size = one.options.get("size")
    return f"{number + 1} {one.name}{f' {size}' if size else ''} {one.split}"
