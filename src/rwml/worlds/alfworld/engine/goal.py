"""PDDL goals: any mix of and, or, not, imply, exists, forall and =, checked by joins that stop at the first witness."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from rwml.core.errors import RwmlError
from rwml.core.text import shortened

Tree = str | list["Tree"]

# Official files stay far below these: 10 levels, 75 words, 23 bindings. What is deeper or longer than that overflows
# Python's stack, and every further variable of a quantifier multiplies the bindings.
MAX_DEPTH, MAX_WORDS, MAX_BINDINGS = 64, 300, 20_000

# What can change in play; a goal is looked at again only after a change of a kind that it reads.
MOVED, OPENED, CARRIED, TREATED = 1, 2, 4, 8


class _Predicate(NamedTuple):
    sorts: tuple[str, ...]
    changes: int  # the kinds of change that can alter it
    rank: int  # joins of equal binding start at the lowest: the relation that is likely to have fewest rows


_TREATMENTS = ("isclean", "ishot", "iscool", "ison", "istoggled", "issliced")
_TRAITS = ("pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable", "isreceptacleobject")
PREDICATES = {
    "holds": _Predicate(("agent", "object"), CARRIED, 0),
    "holdsany": _Predicate(("agent",), CARRIED, 0),
    "atlocation": _Predicate(("agent", "location"), MOVED, 0),
    **{name: _Predicate(("object",), TREATED, 1) for name in _TREATMENTS},
    "objecttype": _Predicate(("object", "otype"), 0, 2),
    "receptacletype": _Predicate(("receptacle", "rtype"), 0, 2),
    "opened": _Predicate(("receptacle",), OPENED, 3),
    "openable": _Predicate(("receptacle",), 0, 3),
    **{name: _Predicate(("object",), 0, 3) for name in _TRAITS},
    "inreceptacleobject": _Predicate(("object", "object"), 0, 3),
    "inreceptacle": _Predicate(("object", "receptacle"), CARRIED, 4),
    "objectatlocation": _Predicate(("object", "location"), CARRIED, 4),
    "receptacleatlocation": _Predicate(("receptacle", "location"), 0, 4),
}
LETTERS = {"object": "o", "receptacle": "r", "location": "l", "agent": "a"}
_SORT_OF_LETTER = {letter: sort for sort, letter in LETTERS.items()}

Value = int | str  # the number of an entity, or the name of a type


class Facts(Protocol):
    """The state of a game, as a goal reads it."""

    def rows(self, predicate: str, pattern: tuple[Value | None, ...]) -> Iterable[tuple[Value, ...]]:
        """All true facts of `predicate` that agree with `pattern`, where None is free."""
        ...

    def holds(self, predicate: str, args: tuple[Value, ...]) -> bool:
        """Whether one ground fact is true."""
        ...

    def count(self, sort: str) -> int:
        """Number of entities of a sort."""
        ...


Env = list[Value]  # the values of the slots, and last how many bindings are left
Check = Callable[[Facts, Env], bool]


class Goal(NamedTuple):
    """A compiled goal. changes: the kinds of change after which `reached` can answer differently."""

    check: Check
    num_slots: int
    changes: int

    def reached(self, facts: Facts) -> bool:
        """Whether the goal holds; RwmlError after `MAX_BINDINGS` bindings of variables that decide nothing."""
        return self.check(facts, [*[-1] * self.num_slots, MAX_BINDINGS])


def read_tree(text: str) -> Tree:
    """Read one s-expression, lower-cased and without comments, as nested lists. ValueError when it is malformed, or
    nested deeper than `MAX_DEPTH`."""
    stack: list[list[Tree]] = [[]]
    if ";" in text:
        text = re.sub(r";[^\n]*", "", text)
    for token in text.lower().replace("(", " ( ").replace(")", " ) ").split():
        if token == "(":
            if len(stack) > MAX_DEPTH:
                raise ValueError(f"brackets are nested deeper than {MAX_DEPTH}")
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError("a closing bracket too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise ValueError(f"{len(stack) - 1} brackets are not closed")
    if len(stack[0]) != 1:
        raise ValueError(f"{len(stack[0])} expressions in place of one")
    return stack[0][0]


def write_tree(tree: Tree) -> str:
    """The text of an s-expression, with single spaces; `read_tree` reads it back."""
    return tree if isinstance(tree, str) else "(" + " ".join(map(write_tree, tree)) + ")"


@lru_cache(maxsize=8192)
def compile_goal(text: str) -> Goal:
    """Compile a goal whose entities are written `o:3`, `r:0`, `l:5`, `a:0`. ValueError: it cannot be checked."""
    words = len(text.replace("(", " ( ").replace(")", " ) ").split())
    if words > MAX_WORDS:
        raise ValueError(f"it has {words:,} words and brackets, more than {MAX_WORDS}")
    compiler = _Compiler()
    check = compiler.condition(read_tree(text), {}, frozenset())
    return Goal(check, compiler.num_slots, compiler.changes)


class _Term(NamedTuple):
    """A variable (its slot in the environment) or a constant (slot -1)."""

    sort: str
    slot: int
    value: Value


class _Join(NamedTuple):
    """One conjunct of an existential: a relation to join (`terms`), or any condition to test."""

    needs: frozenset[int]
    check: Check
    predicate: str
    terms: tuple[_Term, ...]


Scope = dict[str, _Term]


class _Compiler:
    """Turns a tree into closures. Every quantified variable gets its own slot."""

    def __init__(self) -> None:
        self.num_slots = 0
        self.changes = 0

    def condition(self, tree: Tree, scope: Scope, bound: frozenset[int]) -> Check:
        """Compile a condition; `bound` are the slots that have values when it is checked."""
        if isinstance(tree, str) or (tree and not isinstance(tree[0], str)):
            raise ValueError(f"{write_tree(tree)!r} is not a condition")
        if not tree:
            return lambda facts, env: True
        head = str(tree[0])
        if head in ("and", "or"):
            return _all_or_any([self.condition(part, scope, bound) for part in tree[1:]], every=head == "and")
        if head == "not":
            inner = self.condition(self._only(tree, 1)[0], scope, bound)
            return lambda facts, env: not inner(facts, env)
        if head == "imply":
            left, right = self._only(tree, 2)
            return self.condition(["or", ["not", left], right], scope, bound)
        if head == "exists":
            return self._exists(tree, scope, bound)
        if head == "forall":
            variables, body = self._only(tree, 2)
            return self.condition(["not", ["exists", variables, ["not", body]]], scope, bound)
        return self._atom(tree, scope).check

    @staticmethod
    def _only(tree: list[Tree], count: int) -> list[Tree]:
        if len(tree) != count + 1:
            raise ValueError(f"{tree[0]!r} takes {count} parts, not {len(tree) - 1}")
        return tree[1:]

    def _term(self, word: Tree, scope: Scope, sort: str = "") -> _Term:
        if not isinstance(word, str):
            raise ValueError(f"{write_tree(word)!r} is not a variable or a name")
        if word.startswith("?"):
            if word not in scope:
                raise ValueError(f"the variable {word} is not declared")
            return scope[word]
        letter, colon, number = word.partition(":")
        if colon and letter in _SORT_OF_LETTER:
            return _Term(_SORT_OF_LETTER[letter], -1, int(number))
        if sort in LETTERS:
            raise ValueError(f"{shortened(word, 60)!r} is no {sort} of this game")
        return _Term(sort or "type", -1, word)

    def _atom(self, tree: list[Tree], scope: Scope) -> _Join:
        name = str(tree[0])
        if name == "=":
            left, right = (self._term(word, scope) for word in self._only(tree, 2))
            return _Join(_slots((left, right)), _equality(left, right), "", ())
        known = PREDICATES.get(name)
        if known is None:
            raise ValueError(f"play keeps no {name!r}")
        words = self._only(tree, len(known.sorts))
        terms = tuple(self._term(word, scope, sort) for word, sort in zip(words, known.sorts, strict=True))
        if any(term.sort != sort for term, sort in zip(terms, known.sorts, strict=True)):
            raise ValueError(f"{write_tree(tree)} mixes sorts: {name} takes {', '.join(known.sorts)}")
        self.changes |= known.changes
        return _Join(_slots(terms), _test(name, terms), name, terms)

    def _declare(self, words: Tree, scope: Scope) -> Scope:
        if isinstance(words, str):
            raise ValueError(f"{words!r} is not a list of variables")
        inner, waiting = dict(scope), []
        rest = iter(words)
        for word in rest:
            if word != "-":
                waiting.append(str(word))
                continue
            sort = next(rest, None)
            if not isinstance(sort, str) or sort not in LETTERS:
                raise ValueError(f"variables of sort {sort!r} are not known")
            for name in waiting:
                inner[name] = _Term(sort, self.num_slots, -1)
                self.num_slots += 1
            waiting = []
        if waiting:
            raise ValueError(f"the variable {waiting[0]} has no sort")
        return inner

    def _conjuncts(self, tree: Tree, scope: Scope, new: dict[int, str]) -> Iterable[tuple[Tree, Scope]]:
        """Flatten nested ands and exists; `new` collects the slots and sorts of their variables."""
        if isinstance(tree, list) and tree and tree[0] == "and":
            for part in tree[1:]:
                yield from self._conjuncts(part, scope, new)
        elif isinstance(tree, list) and tree and tree[0] == "exists":
            variables, body = self._only(tree, 2)
            inner = self._declare(variables, scope)
            new.update({term.slot: term.sort for name, term in inner.items() if scope.get(name) is not term})
            yield from self._conjuncts(body, inner, new)
        else:
            yield tree, scope

    def _exists(self, tree: list[Tree], scope: Scope, bound: frozenset[int]) -> Check:
        new: dict[int, str] = {}
        parts = []
        for part, inner in list(self._conjuncts(tree, scope, new)):
            if isinstance(part, list) and part and (part[0] == "=" or part[0] in PREDICATES):
                parts.append(self._atom(part, inner))
            else:
                needs = frozenset(term.slot for term in inner.values() if _mentions(part, inner, term))
                parts.append(_Join(needs, self.condition(part, inner, bound | needs), "", ()))
        return _join(parts, new, set(bound))


def _mentions(tree: Tree, scope: Scope, term: _Term) -> bool:
    if isinstance(tree, str):
        return scope.get(tree) is term
    return any(_mentions(part, scope, term) for part in tree)


def _slots(terms: Iterable[_Term]) -> frozenset[int]:
    return frozenset(term.slot for term in terms if term.slot >= 0)


def _all_or_any(checks: list[Check], *, every: bool) -> Check:
    if every:
        return lambda facts, env: all(check(facts, env) for check in checks)
    return lambda facts, env: any(check(facts, env) for check in checks)


def _count(env: Env) -> None:
    """Count a binding; RwmlError once none is left."""
    left = int(env[-1]) - 1
    if left < 0:
        raise RwmlError(
            f"the goal is not decided after {MAX_BINDINGS:,} bindings of its variables",
            "it is checked after every step, and more variables take minutes to years",
            "take this game out of the data, or write its goal with fewer variables in one quantifier",
        )
    env[-1] = left


def _value(term: _Term, env: Env) -> Value:
    return term.value if term.slot < 0 else env[term.slot]


def _equality(left: _Term, right: _Term) -> Check:
    if left.sort != right.sort:
        return lambda facts, env: False
    return lambda facts, env: _value(left, env) == _value(right, env)


def _test(predicate: str, terms: tuple[_Term, ...]) -> Check:
    return lambda facts, env: facts.holds(predicate, tuple(_value(term, env) for term in terms))


def _join(parts: list[_Join], new: dict[int, str], bound: set[int]) -> Check:
    """Order the conjuncts, most bound arguments first, and chain them so that the first witness ends the search."""
    steps: list[Callable[[Check], Check]] = []
    waiting = list(parts)
    while waiting:
        ready = next((part for part in waiting if part.needs <= bound), None)
        if ready is not None:
            waiting.remove(ready)
            steps.append(_testing(ready.check))
            continue
        relations = [part for part in waiting if part.predicate]
        if relations:
            best = max(relations, key=lambda part: _eagerness(part, bound))
            waiting.remove(best)
            steps.append(_searching(best, frozenset(bound)))
            bound |= best.needs
        else:
            slot = min(set().union(*(part.needs for part in waiting)) - bound)
            steps.append(_ranging(slot, new[slot]))
            bound.add(slot)
    steps += [_ranging(slot, sort) for slot, sort in new.items() if slot not in bound]
    search: Check = lambda facts, env: True  # noqa: E731
    for step in reversed(steps):
        search = step(search)
    return search


def _eagerness(part: _Join, bound: set[int]) -> tuple[float, int, int]:
    """Sort key of the next relation: share of bound arguments, then bound variables before constants, then size."""
    joined = sum(term.slot in bound for term in part.terms)
    known = joined + sum(term.slot < 0 for term in part.terms)
    return known / len(part.terms), joined, -PREDICATES[part.predicate].rank


def _testing(check: Check) -> Callable[[Check], Check]:
    return lambda then: lambda facts, env: check(facts, env) and then(facts, env)


def _searching(part: _Join, bound: frozenset[int]) -> Callable[[Check], Check]:
    predicate, terms = part.predicate, part.terms
    free = [(place, term.slot) for place, term in enumerate(terms) if term.slot >= 0 and term.slot not in bound]
    known = [term.slot < 0 or term.slot in bound for term in terms]
    twins = [(free[i][0], free[j][0]) for i in range(len(free)) for j in range(i) if free[i][1] == free[j][1]]

    def chain(then: Check) -> Check:
        def search(facts: Facts, env: Env) -> bool:
            pattern = tuple(_value(term, env) if fixed else None for term, fixed in zip(terms, known, strict=True))
            for row in facts.rows(predicate, pattern):
                if any(row[left] != row[right] for left, right in twins):
                    continue
                _count(env)
                for place, slot in free:
                    env[slot] = row[place]
                if then(facts, env):
                    return True
            return False

        return search

    return chain


def _ranging(slot: int, sort: str) -> Callable[[Check], Check]:
    def chain(then: Check) -> Check:
        def search(facts: Facts, env: Env) -> bool:
            for number in range(facts.count(sort)):
                _count(env)
                env[slot] = number
                if then(facts, env):
                    return True
            return False

        return search

    return chain
