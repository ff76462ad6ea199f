"""The command line. A stage is imported when it is asked for, so that `rwml --help` stays quick and without torch."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwml.stages import VERBS, Verb

if TYPE_CHECKING:
    from rwml.core.run import Run

# Read when torch starts its threads: waiting threads that spin take the cores from the ones that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="rwml",
    help="Reinforcement World Model Learning for language-model agents in text worlds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
worlds_app = typer.Typer(
    help="List worlds, their splits and tasks; play one by hand; or check one.", no_args_is_help=False
)
app.add_typer(worlds_app, name="worlds", invoke_without_command=True)

RecipeName = Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that ships with rwml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key.sub=value ...")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Force = Annotated[bool, typer.Option("--force", help="Run it afresh even if it is done (later stages too).")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="An option of the world: key=value.")]


@contextmanager
def _errors(debug: bool) -> Iterator[None]:
    """Show a user's mistake as a message (exit code 2), and an interrupt as how to go on (130)."""
    from rwml.core.errors import RwmlError

    try:
        yield
    except RwmlError as error:
        if debug:
            raise
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if debug:
            raise
        again = shlex.join(["rwml", *sys.argv[1:]])
        typer.secho(f"\nstopped; the same command goes on from here: {again}", err=True)
        raise typer.Exit(130) from None


def _open(recipe: str, overrides: list[str] | None) -> Run:
    from rwml.core.recipe.recipe import load_recipe
    from rwml.core.run import Run
    from rwml.stages.pipeline import find_recipe

    return Run.open(load_recipe(find_recipe(recipe), tuple(overrides or ())))


def _stage_command(verb: Verb) -> Callable[..., None]:
    def command(recipe: RecipeName, overrides: Overrides = None, force: Force = False, debug: Debug = False) -> None:
        with _errors(debug):
            from rwml.stages.pipeline import run_stage

            run = _open(recipe, overrides)
            if force:
                run.invalidate(verb.stage)
            run_stage(run, verb)

    return command


for _verb in VERBS:
    app.command(_verb.name, help=_verb.help)(_stage_command(_verb))


@app.command("run")
def run_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    force: Annotated[str | None, typer.Option(help="Run this stage and all later ones afresh.")] = None,
    debug: Debug = False,
) -> None:
    """Run all stages of a recipe that are not done yet."""
    with _errors(debug):
        from rwml.stages.pipeline import run_all

        run = _open(recipe, overrides)
        run_all(run, until, force)
        if run.is_done("report"):
            typer.echo(f"report: {run.folder / 'report.html'}")


@app.command("compare")
def compare_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    arms: Annotated[str, typer.Option(help="Run these arms alone: a,b,... (default: those that are enabled).")] = "",
    seeds: Annotated[str, typer.Option(help="Run these of the recipe's seeds alone: 0,1,...")] = "",
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds that run at once, a process each.")] = 1,
    debug: Debug = False,
) -> None:
    """Run every arm of a recipe over every seed, and write the table with intervals. Goes on where it was cut off."""
    with _errors(debug):
        from rwml.core.recipe.recipe import load_recipe
        from rwml.stages.compare import read_seeds
        from rwml.stages.compare import run as compare
        from rwml.stages.pipeline import find_recipe

        chosen = load_recipe(find_recipe(recipe), tuple(overrides or ()))
        names = [name.strip() for name in arms.split(",") if name.strip()]
        page = compare(chosen, names, read_seeds(seeds), until, jobs)
        if page is not None:
            typer.echo(f"comparison: {page}")


@app.command("import")
def import_command(
    files: Annotated[list[Path], typer.Argument(help="tau2 simulation files, or JSON lines of chat messages.")],
    out: Annotated[Path, typer.Option(help="Folder for the episodes and transitions.")],
    hold_out: Annotated[float, typer.Option(help="Share of the tasks without a split that become test.")] = 0.0,
    briefing: Annotated[
        bool, typer.Option(help="Keep tools and policy in the openings; a tiny model needs none.")
    ] = True,
    debug: Debug = False,
) -> None:
    """Make episodes and transitions of other programs' logs, to train a world model on."""
    with _errors(debug):
        from rwml.stages.import_logs import outcome
        from rwml.stages.import_logs import run as import_logs

        typer.echo(outcome(import_logs(files, out, hold_out, briefing=briefing), out))


@app.command("reward")
def reward_command(recipe: RecipeName, overrides: Overrides = None, debug: Debug = False) -> None:
    """Try the rewards on real next states before any training: what they tell apart, what they pay for nothing."""
    with _errors(debug):
        from rwml.core.recipe.recipe import load_recipe
        from rwml.reports.reward_page import outcome
        from rwml.stages.pipeline import find_recipe
        from rwml.stages.reward_lab import run as try_rewards

        chosen = load_recipe(find_recipe(recipe), tuple(overrides or ()))
        typer.echo(outcome(try_rewards(chosen), chosen.folder))


@app.command("measure")
def measure_command(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings of [measure]: measure.key=value ...")] = None,
    debug: Debug = False,
) -> None:
    """Measure a run's checkpoints: imagination, retention, weight change -> measures.json."""
    with _errors(debug):
        from rwml.stages.measure import outcome
        from rwml.stages.measure import run as measure

        typer.echo(outcome(measure(folder, tuple(overrides or ()))))


@app.command()
def summary(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    label: Annotated[str, typer.Option(help="First word of the line.")] = "run",
    started: Annotated[float | None, typer.Option(help="When it started, in seconds since 1970.")] = None,
    debug: Debug = False,
) -> None:
    """Print a run's outcome in one line: before -> after [95% interval of the difference], minutes, report."""
    with _errors(debug):
        from rwml.stages.pipeline import summary_line

        typer.echo(summary_line(folder, label, None if started is None else time.time() - started))


@app.command()
def tiny(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the settings: key=value ...")] = None,
    debug: Debug = False,
) -> None:
    """Make the tiny model's weights anew (docs/tiny.md)."""
    with _errors(debug):
        from rwml.stages.tiny import main as make_tiny

        make_tiny(out, tuple(overrides or ()))


@worlds_app.callback()
def list_worlds(
    context: typer.Context,
    only: Annotated[str | None, typer.Option(help="Name of one world.")] = None,
    option: Options = None,
    debug: Debug = False,
) -> None:
    """List worlds, their splits and tasks; play one by hand; or check one."""
    if context.invoked_subcommand is not None:
        return
    with _errors(debug):
        from rwml.stages.worlds import parse_options, world_rows

        for world, split, count, kinds in world_rows(only, parse_options(option or [])):
            typer.echo(f"{world:10} {split:14} {count:>6,} tasks   {kinds}")


@worlds_app.command("play")
def play_world(
    world: Annotated[str, typer.Argument(help="Name of the world.")],
    split: Annotated[str, typer.Option(help="Split of the task.")] = "train",
    task: Annotated[str, typer.Option(help="Number of the task in its split, or a part of its id.")] = "",
    option: Options = None,
    debug: Debug = False,
) -> None:
    """Play one task by hand: ? lists what is admissible, quit ends."""
    with _errors(debug):
        with suppress(ImportError):
            import readline  # noqa: F401  gives `input` line editing and a history

        from rwml.stages.worlds import find_task, parse_options, play
        from rwml.worlds.registry import get_world

        made = get_world(world, **parse_options(option or []))
        play(made, find_task(made, split, task), input, typer.echo)


@worlds_app.command("check")
def check_command(
    world: Annotated[str, typer.Argument(help="Name of the world, or module:Class for one of your own.")],
    split: Annotated[list[str] | None, typer.Option(help="Split to play; all of them by default.")] = None,
    policy: Annotated[str, typer.Option(help="Built-in policy that plays; the expert or the first by default.")] = "",
    tasks: Annotated[int, typer.Option(help="Tasks to play of each split.")] = 5,
    option: Options = None,
    debug: Debug = False,
) -> None:
    """Check a world against the contract of worlds, and say what is wrong with it (exit code 1)."""
    with _errors(debug):
        from rwml.stages.worlds import check, parse_options

        if not check(world, parse_options(option or []), split or [], policy, tasks, typer.echo):
            raise typer.Exit(1)


def main() -> None:
    """Entry point of the `rwml` command."""
    sys.path.append(str(Path.cwd()))  # module:Class names things of your own, which often lie in the folder at hand
    app()


if __name__ == "__main__":
    main()
