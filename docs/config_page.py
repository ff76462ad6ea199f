"""Write docs/reference/config.md: every recipe key with its default, and the page that explains it.

    python docs/config_page.py

The keys and defaults are those of the code; the words come from the tables of the pages. A test compares the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rwml.core.recipe.recipe import Recipe

DOCS = Path(__file__).parent
PAGE = DOCS / "reference" / "config.md"
TOP_KEYS = {
    "name": "name of the run; it has no default",
    "seed": "every random number of the run follows from it ([seeds](../concepts/seeds.md))",
    "out": "the run folder, which is empty, not there yet, or rwml's; `~` and `{name}` are filled in ([run](run.md))",
}
_HEAD = """# Recipe keys

<!-- Made by `python docs/config_page.py`. Change the tables of the other pages, not this one. -->

A run is one TOML file. It is read once, checked and frozen. A key that the file leaves out has its default. An unknown
key is an error that names the nearest known one. `key.sub=value` on the command line changes single values. Values are
read as TOML, and as text where they are not TOML. Every number is finite and has at most 64 bits. Dates, NUL characters and
more than 32 levels of tables are refused, in `world.options` too.

```bash
rwml run quickstart name=longer train_wm.max_steps=80 world.options.size=small 'evaluate.seeds=[0, 1]'
```

Keys of older versions are read under their new names. A count is a number or `all`.

Recipes that ship with rwml are given by name: `quickstart`, `compare_alfworld`, `tau2_solo_quick`, `alfworld_paper` and
`tau2_paper`. The last two mark each value as stated in the paper, inferred, or left open in it.
"""


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, default) of every setting of a section, those of the sections inside it included."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.get_default(call_default_factory=True)


def documented() -> dict[str, list[tuple[str, dict[str, str]]]]:
    """{key: [(page, the row's cells by column)]} over the tables of all other pages.

    A row of two keys has their defaults beside each other; each key gets its own.
    """
    rows: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for path in sorted(DOCS.rglob("*.md")):
        columns: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines() if path != PAGE else ():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells[:1] == ["key"]:
                columns = cells
            names = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", cells[0]) if cells and columns else []
            for number, name in enumerate(names):
                row = dict(zip(columns, cells, strict=False))
                if len(names) > 1:
                    row["default"] = row["default"].split(",")[number].strip()
                rows.setdefault(name, []).append((path.relative_to(DOCS).as_posix(), row))
            columns = columns if cells else []
    return rows


def page() -> str:
    """The text of the page."""
    pages, sections = documented(), dict[str, list[str]]()
    for key, default in keys(Recipe):
        if key in TOP_KEYS:
            cell = "(required)" if key == "name" else f"`{default}`"
            sections.setdefault("", []).append(f"| `{key}` | {cell} | {TOP_KEYS[key]} | |")
        elif key in pages:
            where, row = pages[key][0]
            name = Path(where).stem
            meaning = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", row.get("meaning") or row["meaning, and why"])
            link = f"[{name}](../{where})" if not where.startswith("reference/") else f"[{name}]({name}.md)"
            line = f"| `{key}` | {row['default']} | {meaning} | {link} |"
            sections.setdefault(key.split(".")[0], []).append(line)
    parts = [_HEAD]
    for section, lines in sections.items():
        title = f"## `[{section}]`" if section else "## Outside of any section"
        parts.append("\n".join([title, "", "| key | default | meaning | page |", "|---|---|---|---|", *lines]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
