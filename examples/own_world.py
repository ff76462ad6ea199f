"""A world of one's own, checked and trained on: python examples/own_world.py [run folder]"""

import sys
from importlib import import_module

from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import Run
from rwml.core.types import Task
from rwml.stages.pipeline import summary_line
from rwml.worlds.base import BaseWorld, Prompts, StepResult
from rwml.worlds.checker import check_world


class LadderEnv:
    """Shelves 1 to 9, one above the other: climb from one to another."""

    def reset(self, task: Task, seed: int = 0) -> str:
        self.shelf, self.goal = map(int, task.id.split("-")[1:])
        return f"You are at shelf {self.shelf}. Your task: go to shelf {self.goal}."

    @property
    def admissible(self) -> list[str]:
        return ["go up"] * (self.shelf < 9) + ["go down"] * (self.shelf > 1)

    @property
    def success(self) -> bool:
        return self.shelf == self.goal

    def step(self, action: str) -> StepResult:
        if action not in self.admissible:
            return StepResult("Nothing happens.", 0.0, terminated=False, valid=False)
        self.shelf += 1 if action == "go up" else -1
        text = f"You arrive at shelf {self.shelf}."
        return StepResult(text, float(self.success), terminated=self.success, valid=True)


class Ladder(BaseWorld):
    """Texts, tasks and the environment; `BaseWorld` has defaults for the rest, a random policy among them."""

    texts = Prompts(
        agent="Answer with <think>your thoughts</think><action>go up</action>, or with go down.",
        world_model="Predict what happens: <think>your thoughts</think><next_state>the observation</next_state>.",
        question="\n\nThe action is: {action}",
    )

    def tasks(self, split: str) -> list[Task]:
        held_out = {"train": False, "valid_unseen": True}.get(split)
        pairs = [(start, goal) for start in range(1, 10) for goal in range(1, 10) if start != goal]
        chosen = [pair for pair in pairs if (sum(pair) % 4 == 0) is held_out]
        return [Task(f"ladder-{start}-{goal}", self.name, split, "climb") for start, goal in chosen]

    def env(self) -> LadderEnv:
        return LadderEnv()


RECIPE = {
    "name": "own_world",
    "world": {"name": "own_world:Ladder", "max_steps": 6},
    "model": {"prompts": "brief", "max_context_tokens": 512},
    "collect": {"policy": "random", "num_tasks": 40, "rollouts_per_task": 1},  # the tiny model has never seen a ladder
    "filter": {"predictor_learning_rate": 1e-3, "predictor_epochs": 20, "num_predictions": 3, "max_new_tokens": 24},
    "train_wm": {
        "reward": "exact",  # in embedding space shelf 4 and shelf 5 are neighbours
        "sft_steps": 24,  # until an answer is right now and then; without any there is nothing to reinforce
        "sft_learning_rate": 1e-3,
        "learning_rate": 3e-4,
        "max_steps": 40,
        "epochs": 20,
        "max_new_tokens": 24,
    },
    "evaluate": {
        "splits": ["valid_unseen"],
        "seeds": [0],
        "num_transitions": 80,
        "collect_policy": "random",
        "world_model_temperature": 1.0,
        "num_tasks": 4,
        "max_new_tokens": 24,
    },
}


def main(out: str = "runs/{name}", recipe: dict = RECIPE) -> str:
    """Check the world, train a world model of it in a run folder, and return the outcome in one line."""
    allow(code=["own_world:Ladder"])  # a recipe that names code runs none of it before you say so
    violations = check_world(Ladder())
    assert not violations, violations
    run = Run.open(parse_recipe(recipe | {"out": out}))
    for stage in ("collect", "transitions", "filter", "train_wm", "evaluate"):
        import_module(f"rwml.stages.{stage}").run(run)
    return summary_line(run.folder, "own_world")


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
