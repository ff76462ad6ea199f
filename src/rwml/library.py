"""The library door: worlds, models, world models, training and planning as a few objects, without folders or recipes.

What `import rwml` offers is defined here or named in `rwml/__init__.py`; docs/reference/python-api.md describes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.files import Json
from rwml.core.guard.arguments import at_least, of_kind
from rwml.core.guard.trust import Server, allow
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.words_needed import check_words
from rwml.core.registry import is_code
from rwml.core.run import Run
from rwml.core.seeds import generator_for, seed_of
from rwml.core.types import Episode, PredictedState, Query, Task, Transition
from rwml.measure.figures.metrics import success_summary, world_model_summary
from rwml.models.language_model import TINY, LanguageModel, load_language_model
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.server import ApiModel
from rwml.playing.failures import failures, refuse_if_all_failed, say_failures
from rwml.playing.planner import Plan, best_of
from rwml.playing.policies import ActionsPolicy, Policy, PolicyMaterials, make_policy, play_seats
from rwml.playing.rollout import LanguageModelPolicy, seats_for
from rwml.rewards.rewards import TAU_D, KindReward, Reward
from rwml.world_models import world_model as world_models
from rwml.world_models.env import ImaginedEnv, ImaginedWorld, kind_of
from rwml.world_models.language import LanguageWorldModel
from rwml.world_models.remote import RemoteWorldModel
from rwml.worlds.answers import inefficient_of, splits_of
from rwml.worlds.base import Prompts, World
from rwml.worlds.by_name import get_world
from rwml.worlds.transitions import newest, transitions_of

MAX_CONTEXT_TOKENS = 4096
TINY_NEW_TOKENS, NEW_TOKENS = 80, 512
Model = LanguageModel | ApiModel


def make(name: str, split: str = "", **options: Any) -> World:
    """A world: "alfworld", "tau2", a name of an installed package's entry point, or `module:Class` of your own, which
    your naming it here allows to run.

    split: checked to exist, for a world that is wanted for it; "" checks nothing. options: the world's own
    (docs/reference/worlds.md). RwmlError names the nearest world, option or split.
    """
    allow_named(name)
    world = get_world(name, **options)
    if split and split not in splits_of(world):
        raise RwmlError(
            f"the world {name} has no split '{split}'", "there would be no task", nearest(split, splits_of(world))
        )
    return world


def load_model(path: str | Path, device: str = "auto", *, api_key_env: str = "") -> Model:
    """A language model: "tiny", a folder, a hub name, or a model behind a server as "http://HOST:PORT/v1#NAME".

    A model behind a server predicts and plans; it cannot be trained. api_key_env: environment variable with the
    server's key. RwmlError for what cannot be loaded.
    """
    url, mark, name = str(path).partition("#")
    if not url.startswith(("http://", "https://")):
        return load_language_model(path, device)
    server = Server.of("the model's address", url, api_key_env)
    if not (mark and name):
        raise RwmlError(
            f"'{server.scheme}://{server.address}' names a server and no model",
            "a server may serve several models",
            'write the model\'s name after a #: "http://localhost:8000/v1#name"',
        )
    return ApiModel(url, name, api_key_env or None)


class WorldModel:
    """A language model as a world model of a world: it predicts, imagines, and is trained by `Trainer`.

    predictor: the `rwml.world_models` object that answers; any of them can be given instead of a language model, by its
    name too ("engine", "beliefs", ...).
    """

    def __init__(
        self,
        model: Model | world_models.WorldModel | str,
        world: World,
        *,
        prompts: str = "",
        temperature: float = 1.0,
        max_new_tokens: int = 0,
        history_steps: int | None = None,
    ) -> None:
        """prompts: "full" or "brief"; "" = brief for the tiny model, which knows no other. max_new_tokens: 0 = 80 for
        the tiny model, 512 for others. history_steps: H, exchanges that a query shows; None = all.
        """
        at_least("max_new_tokens", max_new_tokens, 0)
        at_least("temperature", temperature, 0)
        at_least("history_steps", 1 if history_steps is None else history_steps, 1)
        of_kind("world", world, World, 'rwml.make("alfworld")')
        self.world, self.history_steps, self.temperature = world, history_steps, temperature
        tiny = isinstance(model, LanguageModel) and model.source == TINY
        self.style = prompts or ("brief" if tiny else "full")
        params = SamplingParams(max_new_tokens or (TINY_NEW_TOKENS if tiny else NEW_TOKENS), temperature)
        self.max_new_tokens = params.max_new_tokens
        words = world.prompts(self.style)
        self.model = model if isinstance(model, LanguageModel | ApiModel) else None
        self.predictor: world_models.WorldModel
        if isinstance(model, str):
            allow_named(model)
            self.predictor = world_models.make_world_model(model, world_models.Materials(world))
        elif isinstance(model, LanguageModel):
            self.predictor = LanguageWorldModel(model, local_sampler(model, None), words, params, MAX_CONTEXT_TOKENS)
        elif isinstance(model, ApiModel):
            self.predictor = RemoteWorldModel(model, words, params)
        else:
            self.predictor = model

    @property
    def name(self) -> str:
        """Of the predictor."""
        return self.predictor.name

    def predict(
        self, history: Sequence[str], action: str, n: int = 1, *, task: Task | None = None, seed: int = 0
    ) -> list[PredictedState]:
        """n answers to one question: what comes of `action`?

        history: all that was seen and done, [opening, action, observation, action, ...], so an odd number of texts.
        task: that is played; the real engine needs it, and worlds that show a world model more than a policy (tau2) use
        it. The same seed gives the same answers.
        """
        if len(history) % 2 == 0:
            raise RwmlError(
                f"history has {len(history)} texts",
                "it is the opening, then pairs of action and observation, so its number is odd",
                "give [opening], or [opening, action, observation, ...]",
            )
        past = history[1:]
        opening = history[0] if task is None else self.world.world_model_opening(task, history[0])
        kind, name = kind_of(self.world, action), "" if task is None else task.id
        shown, verb = newest(past, self.history_steps), self.world.verb(action)
        query = Query("", opening, shown, action, kind, verb, name, step=len(past) // 2)
        return self.predictor.predict([query], n, generator_for(seed, "predict", *history, action))[0]

    def imagine(
        self, task: Task, policy: str | Model | Policy | Sequence[str], *, max_steps: int = 30, seed: int = 0
    ) -> Episode:
        """One imagined episode: only the opening is real. policy: as in `play`, or the actions themselves."""
        return play(self.as_world(), [task], policy, max_steps=max_steps, seed=seed)[0]

    def as_env(self) -> ImaginedEnv:
        """An environment whose answers are the predictions."""
        return ImaginedEnv(self.predictor, self.world, history_steps=self.history_steps)

    def as_world(self) -> World:
        """The world with imagined environments; tasks and words are the real world's."""
        imagined: Any = ImaginedWorld(self.predictor, self.world, history_steps=self.history_steps)
        world: World = imagined
        return world


class Episodes(list[Episode]):
    """Episodes, with the world that they were played in."""

    def __init__(self, episodes: Iterable[Episode], world: World) -> None:
        super().__init__(episodes)
        self.world = world

    def __getitem__(self, index: Any) -> Any:
        """An episode, or `Episodes` of a slice."""
        item = super().__getitem__(index)
        return Episodes(item, self.world) if isinstance(index, slice) else item


def play(
    world: World,
    tasks: Sequence[Task],
    policy: str | Model | Policy | Sequence[str] = "random",
    *,
    rollouts: int = 1,
    max_steps: int = 30,
    seed: int = 0,
) -> Episodes:
    """One episode of every task and rollout. A world that fails makes an episode with `error`, never an exception.

    policy: a name ("expert", "random", ... of the world, or of `rwml.policies`), a language model (`language_policy` at
    temperature 1), a policy object, or a list of actions that is played in order. RwmlError names the nearest policy.
    """
    at_least("max_steps", max_steps, 1)
    at_least("rollouts", rollouts, 1)
    of_kind("tasks", tasks, Sequence, "a list such as world.tasks('train')[:4]")
    for task in tasks:
        of_kind("a task", task, Task, "a list such as world.tasks('train')[:4]")
    seats = seats_for(tasks, rollouts, seed_of(seed, "play"))
    chosen = _policy(world, policy, max_steps)
    return Episodes(play_seats(world, seats, chosen, generator_for(seed, "play", "model")), world)


def transitions(
    episodes: Sequence[Episode], world: World | None = None, *, history_steps: int | None = None
) -> list[Transition]:
    """The (history, action, next state) rows of episodes, of their tasks' splits.

    world: that they were played in; None for what `play` returned. history_steps: H, None = all. A step that the world
    fails to describe gives no row; how many there are, and why, is said on stderr.
    """
    at_least("history_steps", 1 if history_steps is None else history_steps, 1)
    chosen = world or getattr(episodes, "world", None)
    if not episodes:
        return []
    if chosen is None:
        raise RwmlError(
            "these episodes do not say which world they were played in",
            "the world says what of an observation a world model has to predict",
            "give what rwml.play returned or a slice of it, or world=...",
        )
    failed: list[str] = []
    rows = [
        row
        for episode in episodes
        for row in transitions_of(episode, chosen, episode.task.split, history_steps, failed=failed)
    ]
    say_failures("transitions", Counter(failed), len(rows) + len(failed), "steps")
    return rows


def evaluate(
    world_model: WorldModel,
    tasks: Sequence[Task],
    *,
    reward: str | Reward = "embedding",
    temperature: float = 0.4,
    max_steps: int = 30,
    seed: int = 0,
) -> Json:
    """Play the tasks with the model, and ask it for every next state of its play.

    Returns {"world_model": figures, "success": figures, "tau_d"}, each figure with its interval over tasks
    (docs/reference/evaluate.md). A world model that cannot play is asked about the world's first built-in policy's
    play, and has no "success". reward: with the threshold tau_d by which a next state counts as right (0.2 for a name).
    temperature: of the play; predictions have the world model's own.
    """
    world, model, tau_d = world_model.world, world_model.model, getattr(reward, "tau_d", TAU_D)
    at_least("the number of tasks", len(tasks), 1)
    allow_named(reward)
    plays = isinstance(model, LanguageModel)
    policy: str | Policy
    if isinstance(model, LanguageModel):
        policy = language_policy(world, model, temperature=temperature, max_steps=max_steps)
    else:
        policy = _first_policy(world)
    episodes = play(world, tasks, policy, max_steps=max_steps, seed=seed)
    refuse_if_all_failed(episodes, "then evaluate again")
    say_failures("evaluate", failures(episodes), len(episodes))
    rows = transitions(episodes, history_steps=world_model.history_steps)
    groups = world_model.predictor.predict([row.query for row in rows], 1, generator_for(seed, "evaluate"))
    states = world_models.first_of_each(groups)
    distances, rewards = KindReward(reward, tau_d=tau_d).score([state.next_state for state in states], rows)
    judged = [world_models.scored(*each) for each in zip(states, distances, rewards, strict=True)]
    result: Json = {"tau_d": tau_d, "world_model": world_model_summary(rows, judged, tau_d)}
    return result | ({"success": success_summary(episodes, inefficient_of(world))} if plays else {})


def plan(
    world_model: WorldModel,
    task: Task,
    k: int = 8,
    *,
    policy: str | Model | Policy | Sequence[str] | None = None,
    max_steps: int = 30,
    seed: int = 0,
) -> Plan:
    """The best of k imagined episodes of a task (`playing/planner.py` says which is best).

    policy: who proposes actions; None = the world model's own language model.
    """
    at_least("k", k, 1)
    chosen = world_model.model if policy is None else policy
    if chosen is None:
        raise RwmlError(
            f"the world model '{world_model.name}' proposes no actions",
            "a plan is the best of several imagined episodes, and somebody has to act in them",
            "give policy=..., a language model or a list of actions",
        )
    imagined = world_model.as_world()
    episodes = play(imagined, [task], chosen, rollouts=k, max_steps=max_steps, seed=seed)
    if all(episode.error for episode in episodes):
        raise RwmlError(
            f"no episode of task '{task.id}' could be imagined: {episodes[0].error}",
            "there is nothing to choose from",
            f"give a task of the world {world_model.world.name}",
        )
    return best_of(episodes)


def allow_named(named: object) -> None:
    """A caller who writes `module:Name`, alone or in a table, allows it to run: a name in a call is no stranger's."""
    names = named.values() if isinstance(named, Mapping) else [named]
    allow(code=[name for name in names if isinstance(name, str) and is_code(name)])


def _policy(world: World, policy: str | Model | Policy | Sequence[str], max_steps: int) -> Policy:
    if isinstance(policy, ApiModel):
        raise RwmlError(
            f"the model '{policy.model}' behind a server was asked to play",
            "a model behind a server predicts next states; it does not act yet",
            "play with a model that this process loads, or with a policy of the world",
        )
    if isinstance(policy, LanguageModel):
        return language_policy(world, policy, max_steps=max_steps)
    if isinstance(policy, str):
        allow_named(policy)
        materials = PolicyMaterials(world, max_steps, _no_language_model)
        return make_policy(policy, materials)
    if isinstance(policy, Policy) and not isinstance(policy, type):
        return policy
    if not isinstance(policy, Sequence) or not all(isinstance(action, str) for action in policy):
        raise RwmlError(
            f"{policy!r} is not a policy",
            "a policy picks the actions of an episode",
            "give a name, a language model, an object with play(world, seats, generator), or a list of actions",
        )
    return ActionsPolicy(tuple(policy[:max_steps]))


def language_policy(
    world: World, model: LanguageModel, *, temperature: float = 1.0, max_steps: int = 30, name: str = "model"
) -> LanguageModelPolicy:
    """A language model that acts in a world, in the world's words. name: what its episodes are filed under."""
    tiny = model.source == TINY
    params = SamplingParams(TINY_NEW_TOKENS if tiny else NEW_TOKENS, temperature)
    words: Prompts = world.prompts("brief" if tiny else "full")
    return LanguageModelPolicy(model, local_sampler(model, None), words, params, max_steps, MAX_CONTEXT_TOKENS, name)


def _no_language_model() -> LanguageModelPolicy:
    raise RwmlError(
        "the policy 'model' has no language model here",
        "a name alone does not say which model plays",
        'give the model itself: policy=rwml.load_model("tiny")',
    )


def _first_policy(world: World) -> str:
    names = world.policies()
    if not names:
        raise RwmlError(
            f"the world {world.name} has no built-in policy, and the world model is not a language model that plays",
            "questions about next states come from somebody's play",
            "give a WorldModel of a language model",
        )
    return names[0]


def load_recipe(
    recipe: str | Path,
    *overrides: str,
    allow_code: Sequence[str] = (),
    allow_keys: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> Recipe:
    """A recipe: a TOML file, the name of one that ships with rwml, or a run folder. overrides: "section.key=value".

    allow_code, allow_keys, allow_hosts: what it may run and whom it may ask (docs/reference/trust.md). RwmlError for
    what it names beyond that.
    """
    from rwml.stages.pipeline import recipe_named

    allow(allow_code, allow_keys, allow_hosts)
    read = recipe_named(str(recipe), overrides)
    check_words(read)
    return read


def run(
    recipe: str | Path,
    *overrides: str,
    until: str | None = None,
    allow_code: Sequence[str] = (),
    allow_keys: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> Run:
    """Run the stages of a recipe that are not done yet, as `rwml run` does; returns the run.

    recipe: a TOML file, the name of one that ships with rwml, or a run folder. overrides: "section.key=value".
    until: the last stage. allow_code, allow_keys, allow_hosts: as for `load_recipe`.
    """
    from rwml.stages.pipeline import run_all, stage_named

    last = stage_named(until) if until else None
    chosen = load_recipe(recipe, *overrides, allow_code=allow_code, allow_keys=allow_keys, allow_hosts=allow_hosts)
    opened = Run.open(chosen)
    run_all(opened, last)
    return opened
