"""The measures of a run, with everything that its checkpoints are measured on: the same for each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import folder_hash, read_json, write_json
from rwml.core.progress import note
from rwml.core.recipe.measure import MEASURES, HeldOutWorld
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import DEFAULT_REWARD, JUDGE_REWARDS, asks_judge
from rwml.core.records import read_records, write_records
from rwml.core.run import Run
from rwml.core.seeds import generator_for, seed_of
from rwml.core.types import Episode, Transition
from rwml.exchange.imported import imported_episodes
from rwml.loading import load_model, load_policy, load_world, sampler_of
from rwml.measure.harness import check_harness, measure_lm_eval
from rwml.measure.plans import LEFT_OUT, leave_one_out, measure_plans
from rwml.measure.retention import measure_text, measure_transitions, read_corpus
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.policies import play_seats
from rwml.play.rollout import play_built_in, seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.language import WorldModel, measure_rollouts
from rwml.worlds.base import World
from rwml.worlds.registry import get_world
from rwml.worlds.transitions import transitions_of

# Settings outside of [measure] that its figures depend on, and the settings in it that each measure depends on.
_SECTIONS = ("seed", "world", "model", "embedding", "collect", "transitions")
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


class MeasureContext:
    """What a recipe's section [measure] asks, of one model after another.

    folder: keeps what is measured, and the episodes, which the model before training, the expert and others play once.
    reward, tau_d: the training reward and its threshold, by which imagined next states count as right.
    Raises RwmlError where lm-evaluation-harness is asked for and not installed, and for a corpus that cannot be read.
    """

    def __init__(self, recipe: Recipe, folder: Path, reward: KindReward, tau_d: float) -> None:
        self.recipe, self.config, self.folder = recipe, recipe.measure, folder
        self.reward, self.tau_d = reward, tau_d
        self.world = load_world(recipe)
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
        """Imagined courses beside real ones, step by step (`measure_rollouts`)."""
        episodes = [e for source, group in self.episodes.items() if source != LEFT_OUT for e in group if not e.error]
        model, generator = self._world_model(lm, self.world), generator_for(self.recipe.seed, "measure", "rollouts")
        samples = self.config.bootstrap_samples
        return measure_rollouts(model, self.reward, self.tau_d, episodes, self.config.depth, generator, samples)

    def plans(self, lm: LanguageModel) -> dict[str, Any]:
        """Whole plans in imagination and in reality (`measure_plans`)."""
        model, generator = self._world_model(lm, self.world), generator_for(self.recipe.seed, "measure", "plans")
        return measure_plans(model, self.episodes, generator, self.config.bootstrap_samples)

    def held_out(self, lm: LanguageModel) -> dict[str, Any]:
        """Loss and accuracy on the transitions of worlds that training did not show: {world: `measure_transitions`}."""
        done = {}
        for label, (world, rows) in self.held_out_rows.items():
            model, generator = self._world_model(lm, world), generator_for(self.recipe.seed, "measure", label)
            done[label] = measure_transitions(model, rows, generator, self.config.bootstrap_samples)
        return done

    def text(self, lm: LanguageModel) -> dict[str, Any]:
        """Loss on plain text (`measure_text`)."""
        limit = self.recipe.model.max_context_tokens
        return measure_text(lm, self.passages, limit, self.config.bootstrap_samples)

    def lm_eval(self, lm: LanguageModel) -> dict[str, Any]:
        """Tasks of lm-evaluation-harness (`measure_lm_eval`)."""
        return measure_lm_eval(lm, self.config.lm_eval, self.config.lm_eval_limit)

    def _world_model(self, lm: LanguageModel, world: World) -> WorldModel:
        config, model = self.config, self.recipe.model
        return WorldModel(
            lm,
            sampler_of(lm, model),
            world,
            model.prompts,
            SamplingParams(config.max_new_tokens, config.temperature),
            model.max_context_tokens,
            self.recipe.transitions.history_steps,
        )

    @cached_property
    def episodes(self) -> dict[str, list[Episode]]:
        """Held-out episodes by who played them; imported ones are all that there is where the recipe has them.

        RwmlError where there are none.
        """
        if self.recipe.collect.episodes:
            return {"imported": self._imported()}
        found: dict[str, list[Episode]] = {}
        for policy in self.config.policies:
            if policy != "model" and policy.partition(":")[0] not in self.world.policies():
                known = ", ".join(self.world.policies()) or "none"
                note(f"measure: the world {self.world.name} has no policy '{policy}' ({known}); it is left out")
                continue
            played = [episode for split in self.config.splits for episode in self._played(split, policy)]
            found[policy] = played
        if self.config.leave_one_out:
            found[LEFT_OUT] = self._kept("left-out", lambda: list(self._left_out(found)))
        if not any(found.values()):
            raise RwmlError(
                f"nobody plays held-out episodes: measure.policies = {list(self.config.policies)}",
                "a world model's imagination is compared with what really happened",
                "name policies that the world has, or model, and splits with tasks (measure.splits)",
            )
        return found

    def _imported(self) -> list[Episode]:
        folder, name, splits = self.recipe.collect.episodes, self.world.name, self.config.splits
        found = imported_episodes(folder)
        groups = {split: [e for e in found if (e.task.world, e.task.split) == (name, split)] for split in splits}
        if not any(groups.values()):
            there = ", ".join(sorted({f"{episode.task.world}/{episode.task.split}" for episode in found}))
            raise RwmlError(
                f"'{folder}' holds no episodes of the world {name} in the splits {', '.join(splits)} (measure.splits)",
                "a world model's imagination is compared with what really happened",
                f"it holds {there}: set measure.splits to splits of the world {name}, or hold some of its tasks out "
                "(`rwml import --hold-out`)",
            )
        for split in (split for split, group in groups.items() if not group):
            note(f"measure: '{folder}' holds no episodes of the world {name} in the split '{split}'")
        return [episode for group in groups.values() for episode in group[: self.config.num_episodes]]

    @cached_property
    def imported(self) -> dict[str, str]:
        """What tells one import from another in the same folder; empty where episodes are played."""
        folder = self.recipe.collect.episodes
        return {"imported": folder_hash(Path(folder).expanduser())} if folder else {}

    def _played(self, split: str, policy: str) -> list[Episode]:
        recipe = self.recipe
        seats = seats_for(self.world.tasks(split)[: self.config.num_episodes], 1, seed_of(recipe.seed, "measure"))
        # Before training: every checkpoint is asked about the same episodes.
        chosen = load_policy(recipe, policy)
        generator = generator_for(recipe.seed, "measure", "play", split, policy)
        return self._kept(
            f"{split}-{policy.replace(':', '-')}",
            lambda: play_seats(self.world, seats, chosen, generator),
        )

    def _left_out(self, found: Mapping[str, Sequence[Episode]]) -> Iterator[Episode]:
        """A variant of one won episode of each task, the first one that can spare a step."""
        generator, done = generator_for(self.recipe.seed, "measure", "left out"), set[str]()
        for episode in (e for group in found.values() for e in group):
            if episode.success and len([s for s in episode.steps if s.parsed]) > 1 and episode.task.id not in done:
                done.add(episode.task.id)
                yield leave_one_out(self.world, episode, generator)

    def _kept(self, name: str, play: Any) -> list[Episode]:
        path = self.folder / _key(_settings(self.recipe, _PLAYED)) / f"episodes-{name}.parquet"
        if not path.exists():
            write_records(path, play(), Episode)
        return read_records(path, Episode)

    @cached_property
    def held_out_rows(self) -> dict[str, tuple[World, list[Transition]]]:
        """The held-out worlds by label, with the transitions that are asked."""
        chosen = self.config.held_out or self._other_sizes()
        return {_label(one, number): self._rows(one) for number, one in enumerate(chosen)}

    def _other_sizes(self) -> tuple[HeldOutWorld, ...]:
        own = ""
        if self.recipe.world.name == "alfworld":
            options = self.recipe.world.options
            own = "official" if options.get("source") == "official" else str(options.get("size", "small"))
        few = {"num_train": 1, "num_valid_seen": 1, "num_valid_unseen": 20}
        return tuple(HeldOutWorld(options={"size": size, **few}) for size in _OTHER_SIZES if size != own)

    def _rows(self, one: HeldOutWorld) -> tuple[World, list[Transition]]:
        world = get_world(one.name, **one.options)
        seats = seats_for(world.tasks(one.split)[: one.num_episodes], 1, seed_of(self.recipe.seed, "measure"))
        history = self.recipe.transitions.history_steps
        rows = [
            row
            for episode in play_built_in(world, seats, one.policy, one.max_steps)
            for row in transitions_of(episode, world, one.split, history)
        ]
        return world, rows[: self.config.num_transitions]


class KeptMeasures:
    """The measures of one checkpoint: each is taken once under the same settings and of the same weights, and kept in
    the folder of `measuring`, with its rows.

    path: where the checkpoint lies; None: the recipe's model. weights: its hash. name: of its folder in there.
    """

    def __init__(self, measuring: MeasureContext, path: Path | None, weights: str, name: str) -> None:
        self.measuring, self.checkpoint, self.folder = measuring, path, measuring.folder / name
        self.same: dict[str, Any] = {"weights": weights}
        self.of_measure: dict[str, dict[str, Any]] = {
            "rollouts": {"tau_d": measuring.tau_d, "reward": measuring.reward.choice, **measuring.imported},
            "plans": measuring.imported,
            "text": {"passages": measuring.passages},
        }

    def path(self, name: str) -> Path:
        """Where a measure lies; the name follows from all that it depends on."""
        settings = _settings(self.measuring.recipe, _READS[name]) | self.same | self.of_measure.get(name, {})
        return self.folder / f"{name}-{_key(settings)}.json"

    def measure(self, name: str) -> dict[str, Any]:
        """One of `MEASURES`, as it was kept or measured now."""
        path = self.path(name)
        if not path.exists():
            write_json(path, self.measuring.measure(name, self._mind))
        return dict(read_json(path))

    @cached_property
    def _mind(self) -> LanguageModel:
        return load_model(self.measuring.recipe.model, self.checkpoint)


def without_judge(run: Run) -> Run:
    """The run, with the embedding reward in the place of a judge's, who would be asked thousands of times; in a table
    the kinds that have another reward keep it."""
    choice, of = run.recipe.train_wm.reward, ""
    if not asks_judge(choice):
        return run
    other: str | dict[str, str] = DEFAULT_REWARD
    if not isinstance(choice, str):
        judged = [kind for kind, name in choice.items() if name in JUDGE_REWARDS]
        other, of = choice | dict.fromkeys(judged, DEFAULT_REWARD), f" of kind {', '.join(judged)}"
    note(f"measure: imagined next states{of} are scored by the embedding reward, not by the judge")
    return Run(run.recipe.with_settings({"train_wm.reward": other}), run.folder, {"stages": {}})


def _settings(recipe: Recipe, keys: tuple[str, ...]) -> dict[str, Any]:
    data = recipe.model_dump(mode="json")
    return {
        "rwml": rwml.__version__,
        "measure": {key: data["measure"][key] for key in keys},
        **{name: data[name] for name in _SECTIONS},
    }


def _key(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _label(one: HeldOutWorld, number: int) -> str:
    size = one.options.get("size")
    return f"{number + 1} {one.name}{f' {size}' if size else ''} {one.split}"
