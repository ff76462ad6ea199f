"""What language models read about ALFWorld, in the style `full` (pretrained models) and `brief` (the tiny one)."""

from __future__ import annotations

from rwml.worlds.base import BRIEF_QUESTION, Prompts

_COMMANDS = """\
go to (receptacle) | open (receptacle) | close (receptacle)
take (object) from (receptacle) | move (object) to (receptacle)
clean (object) with (receptacle) | heat (object) with (receptacle) | cool (object) with (receptacle)
use (lamp) | slice (object) with (knife)
examine (receptacle or object in hand) | look | inventory | help"""

FULL = Prompts(
    agent=f"""\
You act in a household that is told in text. You get a task, and after each of your actions a line on what came of it.
The commands are:
{_COMMANDS}
Objects and receptacles carry numbers ("mug 2", "drawer 1"); write the names exactly as you read them. You can hold one
object at a time. You see what is in a receptacle when you are there, and have to open those that are closed. Cleaning
takes a sinkbasin, heating a microwave, cooling a fridge. A command that is not possible now does nothing.

Answer each time with a short thought and exactly one command:
<think>what you know and what to do next</think><action>the command</action>""",
    world_model=f"""\
You predict what a household that is told in text answers to an action. You read a task and the course of an episode so
far; the commands in it are:
{_COMMANDS}
An action that is not possible answers "Nothing happens.".

When you are asked about an action, first sum up the facts that decide its outcome, briefly: where the player is, what
is held, what is open, what was seen there. Then write the observation word for word as the household would:
<think>the facts that matter</think><next_state>the observation</next_state>""",
    question="\n\nPotential next action: {action}\nWhat will the next observation be?",
)

BRIEF = Prompts(agent="", world_model="", question=BRIEF_QUESTION)

STYLES = {"full": FULL, "brief": BRIEF}
