"""The tags that language models read and answer in, and how they are read back (as in RWML)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# An unclosed thought lasts to the end: a draft inside it is not an answer.
THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)

_TOOLS_OPEN, _TOOLS_CLOSE = "<tools>\n", "\n</tools>"


def tools_block(tools: Sequence[Mapping[str, Any]]) -> str:
    """The block of tools at the head of an opening: OpenAI function schemas, one line of JSON each."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return f"{_TOOLS_OPEN}{lines}{_TOOLS_CLOSE}"


def split_tools(opening: str) -> tuple[str, str]:
    """The lines of the tools block that an opening begins with ("" without one), and the text after it."""
    lines, close, rest = opening.partition(f"{_TOOLS_CLOSE}\n\n")
    if not close or not lines.startswith(_TOOLS_OPEN):
        return "", opening
    return lines[len(_TOOLS_OPEN) :], rest


def action_text(action: str, thought: str | None = None) -> str:
    """An assistant message that takes an action; `thought=None` leaves the think block out."""
    think = "" if thought is None else f"<think>{thought}</think>"
    return f"{think}<action>{action}</action>"


def next_state_text(next_state: str, thought: str = "") -> str:
    """An assistant message that predicts; the empty thought is the WM SFT label (as in RWML)."""
    return f"<think>{thought}</think><next_state>{next_state}</next_state>"


def parse_action(text: str, *, truncated: bool = False) -> str | None:
    """The action outside the first thought, or None where the tags are missing, empty or given more than once.

    truncated: the answer was cut off. The open thought of a truncated answer has no action yet; a finished answer
    without `</think>` is read as written.
    """
    return _only("action", _after_thought(text, truncated=truncated))


def parse_next_state(text: str, *, truncated: bool = False) -> str | None:
    """The next state outside the first thought, or None where the tags are missing, empty or given more than once.

    truncated: as in `parse_action`.
    """
    return _only("next_state", _after_thought(text, truncated=truncated))


def _after_thought(text: str, *, truncated: bool) -> str:
    before, opening, inside = text.partition("<think>")
    _, closing, after = inside.partition("</think>")
    if closing:
        return before + after
    return before if opening and truncated else text


def _only(tag: str, text: str) -> str | None:
    """The text between the one pair of these tags; found tag by tag, in a time that is linear in the text's length."""
    _, opening, rest = text.partition(f"<{tag}>")
    inside, closing, after = rest.partition(f"</{tag}>")
    _, again, more = after.partition(f"<{tag}>")
    if not opening or not closing or (again and f"</{tag}>" in more):
        return None
    return inside.strip() or None
