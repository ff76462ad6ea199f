"""Built-in policies of telecom in solo mode, no language models: random, expert, and a mixture of both.

The expert is a technician who follows the order of the domain's own workflow: who is it, is there service, is there
data, is it fast, can messages be sent. It sees the ticket and the tools' responses, and nothing hidden.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.seeds import random_for
from rwml.core.tool_calls import ToolCall, call_text

NAMES = ("random", "expert", "noisy")
NOISE = 0.25
TODAY = "2025-02-25"  # the day at which every telecom task plays
MOST_REFUELED = 2.0  # GB, by the domain's policy
CANNOT_FIX = "I cannot fix the issue."
_ROUNDS = 2
_LAST = ("done", "transfer_to_human_agents")  # no random call ends the work
_IDS = {
    "customer_id": r"\bC\d{4}\b",
    "line_id": r"\bL\d{4}\b",
    "bill_id": r"\bB\d{4,}\b",
    "plan_id": r"\bP\d{4}\b",
    "new_plan_id": r"\bP\d{4}\b",
    "id": r"\b[CLBPD]\d{4,}\b",
    "phone_number": r"\b\d{3}-\d{3}-\d{4}\b",
}
_WORDS = {
    "app_name": ("messaging", "browser", "mail"),
    "permission": ("sms", "storage", "phone", "network"),
    "mode": ("4g_5g_preferred", "4g_only", "3g_only", "2g_only"),
    "full_name": ("John Smith",),
    "dob": ("1985-06-15",),
    "reason": ("lost phone",),
    "summary": (CANNOT_FIX,),
}

Work = Generator[ToolCall, str, bool]


def _call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments)


def _ask(name: str, **arguments: Any) -> Generator[ToolCall, str, str]:
    """One call; its response."""
    return (yield _call(name, **arguments))


def _record(response: str) -> dict[str, Any]:
    """A JSON object, or {} for anything else (an error, a status)."""
    try:
        value = json.loads(response)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Technician:
    """One ticket. `work` yields calls, is sent their responses, and ends with `done` or a transfer."""

    def __init__(self, ticket: str) -> None:
        self.ticket = ticket
        self.purpose = self.status = ""
        self.customer = self.line = ""
        self.line_record: dict[str, Any] = {}
        self.bills: list[str] = []

    def work(self) -> Work:
        """The whole repair; returns whether the last check was good."""
        yield from self._identify()
        solved = False
        for _ in range(_ROUNDS):
            if not (yield from self._service()):
                return (yield from self._give_up())
            if not self._about_service:
                yield from self._data()
            solved = (yield from self._speed()) if self._about_speed else (yield from self._messages())
            if solved:
                break
        if not solved:
            return (yield from self._give_up())
        self.purpose = "done"
        yield _call("done")
        return True

    @property
    def _about_messages(self) -> bool:
        return "MMS" in self.ticket

    @property
    def _about_speed(self) -> bool:
        return not self._about_messages and ("speed" in self.ticket or "mobile data" in self.ticket)

    @property
    def _about_service(self) -> bool:
        return not self._about_messages and not self._about_speed

    def _give_up(self) -> Work:
        self.purpose = "transfer"
        yield _call("transfer_to_human_agents", summary=CANNOT_FIX)
        yield _call("done")
        return False

    def _identify(self) -> Generator[ToolCall, str, None]:
        """The customer, and the line with the ticket's number."""
        self.purpose = "identify"
        numbers = re.findall(_IDS["phone_number"], self.ticket)
        customer = _record((yield from _ask("get_customer_by_phone", phone_number=numbers[0] if numbers else "")))
        self.customer, self.bills = str(customer.get("customer_id", "")), list(customer.get("bill_ids", ()))
        for line in customer.get("line_ids", ()):
            record = _record((yield from _ask("get_details_by_id", id=line)))
            if record.get("phone_number") in numbers:
                self.line, self.line_record = line, record
                return

    def _service(self) -> Work:
        """Airplane mode, SIM card, suspension, access point; False where only a human can help."""
        self.purpose = "service"
        self.status = yield from _ask("check_network_status")
        if "Airplane Mode: ON" in self.status:
            yield from _ask("toggle_airplane_mode")
        sim = yield from _ask("check_sim_status")
        if "No SIM" in sim:
            sim = yield from _ask("reseat_sim_card")
        if "locked" in sim:
            return False
        if self.line_record.get("status") == "Suspended" and not (yield from self._resume()):
            return False
        bar = yield from _ask("check_status_bar")
        if "No Signal" in bar:
            yield from _ask("reset_apn_settings")
            yield from _ask("reboot_device")
            bar = yield from _ask("check_status_bar")
        return "No Signal" not in bar and "Airplane" not in bar

    def _resume(self) -> Work:
        """Have overdue bills paid, then lift the suspension; not where the contract has ended."""
        self.purpose = "suspension"
        if str(self.line_record.get("contract_end_date", "9999")) < TODAY:
            return False
        for bill in self.bills:
            if _record((yield from _ask("get_details_by_id", id=bill))).get("status") == "Overdue":
                yield from _ask("send_payment_request", customer_id=self.customer, bill_id=bill)
                yield from _ask("check_payment_request")
                yield from _ask("make_payment")
        resumed = yield from _ask("resume_line", customer_id=self.customer, line_id=self.line)
        yield from _ask("reboot_device")
        return not resumed.startswith("Error")

    def _data(self) -> Generator[ToolCall, str, None]:
        """Mobile data, roaming, allowance, and the kind of network."""
        self.purpose = "data"
        if "Mobile Data Enabled: No" in self.status:
            yield from _ask("toggle_data")
        if "abroad" in self.ticket:
            if not self.line_record.get("roaming_enabled", False):
                yield from _ask("enable_roaming", customer_id=self.customer, line_id=self.line)
                self.line_record["roaming_enabled"] = True
            if "Data Roaming Enabled: No" in self.status:
                yield from _ask("toggle_roaming")
        usage = _record((yield from _ask("get_data_usage", customer_id=self.customer, line_id=self.line)))
        allowed = float(usage.get("data_limit_gb", 0)) + float(usage.get("data_refueling_gb", 0))
        asked = re.search(r"refuel (\d+(?:\.\d+)?) GB", self.ticket)
        if float(usage.get("data_used_gb", 0)) > allowed:
            amount = float(asked[1]) if asked else MOST_REFUELED
            yield from _ask("refuel_data", customer_id=self.customer, line_id=self.line, gb_amount=amount)
        if "2g" in (yield from _ask("check_network_mode_preference")):
            yield from _ask("set_network_mode_preference", mode="4g_5g_preferred")

    def _speed(self) -> Work:
        self.purpose = "speed"
        if "is ON" in (yield from _ask("check_data_restriction_status")):
            yield from _ask("toggle_data_saver_mode")
        if "connected." in (yield from _ask("check_vpn_status")).replace("not connected.", ""):
            yield from _ask("disconnect_vpn")
        return "Excellent" in (yield from _ask("run_speed_test"))

    def _messages(self) -> Work:
        """What picture messages need; for a ticket about service there is no more to do."""
        if self._about_service:
            return True
        self.purpose = "messages"
        if "ON" in (yield from _ask("check_wifi_calling_status")):
            yield from _ask("toggle_wifi_calling")
        allowed = (yield from _ask("check_app_permissions", app_name="messaging")).partition("for:")[2]
        for permission in ("sms", "storage"):
            if permission not in allowed:
                yield from _ask("grant_app_permission", app_name="messaging", permission=permission)
        if "Not Set" in (yield from _ask("check_apn_settings")):
            yield from _ask("reset_apn_settings")
            yield from _ask("reboot_device")
        return "can send" in (yield from _ask("can_send_mms"))


class SoloPolicy:
    """The technician, with a chance `noise` of a random call in its place; noise 1 is the random policy."""

    def __init__(self, seed: int, noise: float, tools: Sequence[Mapping[str, Any]]) -> None:
        self._rng = random_for("tau2", seed)
        self._noise = noise
        self._tools = [tool["function"] for tool in tools if tool["function"]["name"] not in _LAST]
        self._seen = ""
        self._technician: Technician | None = None
        self._work: Work | None = None
        self._waiting: ToolCall | None = None
        self._purpose = ""

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        """The next call, as an action's text."""
        if self._technician is None:
            self._begin(observation)
        elif self._waiting is None and self._work is not None:
            self._waiting = self._next(observation)
        self._seen += "\n" + observation
        if self._rng.random() < self._noise:
            self._purpose = "try"
            return call_text([self._random_call()])
        call, self._waiting = self._waiting, None
        self._purpose = self._technician.purpose if self._technician else ""
        return call_text([call or _call("done")])

    def thought(self) -> str:
        """What the call is for, in a word."""
        return self._purpose

    def _begin(self, opening: str) -> None:
        self._technician = Technician(opening.rpartition("Ticket: ")[2])
        self._work = self._technician.work()
        self._waiting = next(self._work)

    def _next(self, response: str) -> ToolCall:
        assert self._work is not None
        try:
            return self._work.send(response)
        except StopIteration:
            self._work = None
            return _call("done")

    def _random_call(self) -> ToolCall:
        function = self._rng.choice(self._tools)
        properties = function.get("parameters", {}).get("properties", {})
        return _call(function["name"], **{name: self._value(name, schema) for name, schema in properties.items()})

    def _value(self, name: str, schema: dict[str, Any]) -> Any:
        if name in _IDS:
            ids = sorted(set(re.findall(_IDS[name], self._seen.rpartition("Ticket: ")[2])))
            return self._rng.choice(ids) if ids else "C1001"
        if name in _WORDS:
            return self._rng.choice(_WORDS[name])
        if schema.get("type") in ("number", "integer"):
            return self._rng.choice((1, 2, 12))
        return {} if "settings" in name else TODAY


def make_policy(name: str, seed: int, tools: Sequence[Mapping[str, Any]]) -> SoloPolicy:
    """A built-in policy for one episode, with the domain's tools (OpenAI schemas).

    "noisy:0.4" sets the share of random calls. RwmlError for another name.
    """
    kind, _, share = name.partition(":")
    if kind not in NAMES or (share and kind != "noisy"):
        raise RwmlError(f"tau2 has no policy '{name}'", "nobody would play", nearest(kind, NAMES))
    try:
        noise = float(share) if share else {"random": 1.0, "expert": 0.0, "noisy": NOISE}[kind]
    except ValueError:
        noise = -1.0
    if not 0 <= noise <= 1:
        raise RwmlError(
            f"policy '{name}': '{share}' is not a share", "it is the chance of a random call", "write noisy:0.3"
        )
    return SoloPolicy(seed, noise, tools)
