"""One official environment in play, over a database that is shared until it is written to."""

from __future__ import annotations

import ast
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rwml.worlds.tau2.records import Records, Sharing
from rwml.worlds.tau2.tasks import TaskRecord

Requestor = Literal["assistant", "user"]
# Names of parameters on the official way to a tool: arguments of these names collide there, with an error of its own.
_ON_THE_WAY = frozenset({"self", "tool_name", "requestor"})
# A whole number of more bits is not computed: it would take seconds at least, and is no float in any case.
_MAX_BITS = 1e7


@dataclass(frozen=True, slots=True)
class Access:
    """The tools of a session, and who may call them.

    agent_writes, user_writes: for each tool of the toolkit whether it may write to the databases. solo: the agent is
    alone, and reaches the user's tools too.
    """

    agent_writes: Mapping[str, bool]
    user_writes: Mapping[str, bool]
    solo: bool


class Session:
    """One play of one task. Made by `Domain.start`; not thread-safe.

    Equal calls get equal responses in every session of a task, as in a fresh process of the official package. One thing
    is fixed that is random in the official package: the id of a bill that a call makes.

    task: its record. data: the folder of the domains. access: what its tools are allowed. environment: the official
    `Environment`, with this session's data in it; `environment.tools` and `environment.user_tools` are the official
    toolkits. What does not use `call` is safe, but may be slow.
    tables: the tables of the agent's database with records shared; empty if the database is the session's own.
    """

    def __init__(
        self,
        task: TaskRecord,
        data: Path,
        access: Access,
        environment: Any,
        tables: Mapping[str, Records],
        sharing: Sharing,
    ) -> None:
        self.task = task
        self.data = data
        self.access = access
        self.environment = environment
        self.tables = tables
        self._sharing = sharing
        self._num_bills = self._count_bills()

    def call(self, name: str, arguments: Mapping[str, Any], requestor: Requestor = "assistant") -> tuple[str, bool]:
        """Call a tool; return the response's text, and whether it is an error (then it begins with "Error: ").

        As the official `Environment.get_response` answers: in solo mode the agent reaches the user's tools too, and an
        unknown tool, wrong arguments or a refusal are an error. `done` is no tool of the environment: a world ends the
        episode before it comes here. One thing is not tried: to calculate 9**9**9**9, which the official one never
        comes back from.
        """
        environment = self.environment
        kit, mutates = self._kit(name, requestor)
        if name == "calculate" and kit is not None and _is_endless(arguments.get("expression")):
            return "Error: int too large to convert to float", True
        try:
            try:
                self._sharing.on = not mutates
                if kit is None or not _ON_THE_WAY.isdisjoint(arguments):
                    response = environment.make_tool_call(name, requestor=requestor, **arguments)
                else:
                    response = getattr(kit, name)(**arguments)
            finally:
                self._sharing.on = False
                if mutates and self._num_bills >= 0:
                    self._name_new_bills()
            environment.sync_tools()
        except Exception as error:  # the official environment, too, answers every exception of a tool with its text
            return f"Error: {error}", True
        return environment.to_json_str(response), False

    def _kit(self, name: str, requestor: Requestor) -> tuple[Any, bool]:
        """The toolkit that the official environment would use, None if it would refuse; and whether the tool writes."""
        access, environment = self.access, self.environment
        of_user = name in access.user_writes and (access.solo if requestor == "assistant" else not access.solo)
        if of_user:
            return environment.user_tools, access.user_writes[name]
        if requestor == "assistant" and name in access.agent_writes:
            return environment.tools, access.agent_writes[name]
        return None, True

    def _count_bills(self) -> int:
        bills = getattr(self.environment.tools.db, "bills", None)
        return len(bills) if isinstance(bills, list) else -1

    def _name_new_bills(self) -> None:
        """Replace the random ids of bills that the last call made, so that a seed fixes an episode's every word."""
        database = self.environment.tools.db
        for number in range(self._num_bills, len(database.bills)):
            bill = database.bills[number]
            given, bill.bill_id = bill.bill_id, f"B{zlib.crc32(f'{self.task.id} {number}'.encode()):08x}"
            for customer in database.customers:
                customer.bill_ids[:] = [bill.bill_id if id == given else id for id in customer.bill_ids]
        self._num_bills = len(database.bills)


def _is_endless(expression: Any) -> bool:
    """Whether an arithmetic expression has a power of whole numbers that is too large to be computed in its time."""
    if not isinstance(expression, str) or "**" not in expression:
        return False
    try:
        return _bits(ast.parse(expression.strip(), mode="eval").body)[1] > _MAX_BITS
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # evaluating it fails as well


def _bits(node: ast.AST) -> tuple[bool, float]:
    """Whether the value is a whole number, and an upper bound of its bits; a float has 1024 at most."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        whole = isinstance(node.value, int)
        return whole, float(max(node.value.bit_length(), 1)) if isinstance(node.value, int) else 1024.0
    if isinstance(node, ast.UnaryOp):
        return _bits(node.operand)
    if not isinstance(node, ast.BinOp):
        return False, 0.0
    (left_whole, left), (right_whole, right) = _bits(node.left), _bits(node.right)
    inner = max(left, right)
    if inner > _MAX_BITS:
        return True, inner
    if isinstance(node.op, ast.Div) or not (left_whole and right_whole):
        return False, 1024.0
    if isinstance(node.op, ast.Pow):
        exponent = _exponent(node.right, right)
        return True, left * exponent if left > 1 else 1.0
    return True, left + right


def _exponent(node: ast.AST, bits: float) -> float:
    """An upper bound of a whole number's value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return float(min(node.value, 10**18))
    return 2.0**bits if bits < 64 else math.inf
