"""Sessions beside official environments: policy, tools, responses; and that no session sees another."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.tau2.domain import DONE, Domain, get_domain
from rwml.worlds.tau2.package import load
from rwml.worlds.tau2.records import fingerprint
from rwml.worlds.tau2.session import Session
from rwml.worlds.tau2.tasks import TaskRecord, tasks

MODES = (("airline", False), ("retail", False), ("telecom", False), ("telecom", True))
SAMPLE = {"airline": 2, "retail": 4, "telecom": 10}
LOOKS = {
    "airline": [("get_user_details", {"user_id": "emma_kim_9957"}), ("list_all_airports", {}),
                ("search_onestop_flight", {"origin": "JFK", "destination": "SEA", "date": "2024-05-20"}),
                ("calculate", {"expression": "2 * (3 + 4)"}), ("calculate", {"expression": "1 / 0"}),
                ("get_flight_status", {"flight_number": "HAT001", "date": "2024-05-01"})],
    "retail": [("find_user_id_by_email", {"email": "NOBODY@example.com"}), ("list_all_product_types", {}),
               ("get_item_details", {"item_id": "7706410293"}), ("get_user_details", {"user_id": "yusuf_rossi_9620"})],
    "telecom": [("get_details_by_id", {"id": id}) for id in ("C1001", "L1002", "B1001", "P1002", "D1001", "X")]
    + [("get_customer_by_name", {"full_name": "john smith", "dob": "1985-06-15"}),
       ("get_bills_for_customer", {"customer_id": "C1001"}),
       ("get_data_usage", {"customer_id": "C1001", "line_id": "L1001"})],
}  # fmt: skip
# What agents get wrong, by the shape of the mistake; the values are of no matter.
WRONG: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("no_such_tool", {}),
    ("_get_user", {"user_id": "a"}),
    ("transfer_to_human_agents", {}),
    ("transfer_to_human_agents", {"summary": "s", "urgent": True}),
    ("transfer_to_human_agents", {"summary": "s", "tool_name": "t"}),
    ("transfer_to_human_agents", {"summary": "s", "requestor": "user"}),
    ("transfer_to_human_agents", {"summary": "s", "self": None}),
    ("transfer_to_human_agents", {"summary": ["not", {"a": "string"}, None, 1.5]}),
    ("get_user_details", {"user_id": 7}),
    ("get_user_details", {"user_id": ["a"]}),
    ("get_reservation_details", {"reservation_id": None}),
    ("update_reservation_baggages",
     {"reservation_id": "4WQ150", "total_baggages": "three", "nonfree_baggages": 0, "payment_id": "gift_card_1"}),
    ("update_reservation_passengers", {"reservation_id": "4WQ150", "passengers": ["a", "b"]}),
    ("cancel_pending_order", {"order_id": "#W2378156", "reason": "too dear"}),
    ("exchange_delivered_order_items",
     {"order_id": "#W2378156", "item_ids": ["1"], "new_item_ids": [], "payment_method_id": "p"}),
    ("refuel_data", {"customer_id": "C1001", "line_id": "L1001", "gb_amount": "two"}),
    ("refuel_data", {"customer_id": "C1001", "line_id": "L1001", "gb_amount": -1}),
    ("grant_app_permission", {"app_name": "messaging", "permission": "everything"}),
    ("set_network_mode_preference", {"mode": "6g_only"}),
    ("set_apn_settings", {"apn_settings": {"apn_name": "nonsense"}}),
    ("check_app_status", {"app_name": {"a": 1}}),
)  # fmt: skip


def official_environment(domain: Domain, record: TaskRecord) -> Any:
    """The official environment in the task's initial state, made from its files."""
    environment = load(f"domains.{domain.name}.environment").get_environment(solo_mode=domain.solo)
    if domain.name == "telecom":
        # As in a fresh process: a VPN that was broken in another environment is broken for all that come after it.
        whole = load("domains.telecom.user_data_model").PerformanceLevel.EXCELLENT
        kit = environment.user_tools
        kit.default_vpn_details = kit.default_vpn_details.model_copy(update={"server_performance": whole})
    raw = record.initial_state
    state = load("data_model.tasks").InitialState.model_validate(raw or {})
    environment.set_state(
        initialization_data=state.initialization_data,
        initialization_actions=state.initialization_actions,
        message_history=state.message_history or [],
    )
    return environment


def official_response(environment: Any, name: str, arguments: Mapping[str, Any], requestor: str) -> tuple[str, bool]:
    call = load("data_model.message").ToolCall(name=name, arguments=dict(arguments), requestor=requestor)
    response = environment.get_response(call)
    return response.content, response.error


def sample(domain: Domain) -> list[TaskRecord]:
    records = tasks(domain.name, "base", domain.data.parents[1])
    return random.Random(0).sample(records, SAMPLE[domain.name])


def hashes(environment: Any) -> tuple[str, str | None]:
    return environment.get_db_hash(), environment.get_user_db_hash()


@pytest.fixture(params=MODES, ids=["airline", "retail", "telecom", "telecom-solo"])
def domain(request: pytest.FixtureRequest, tau2_official: Path) -> Domain:
    return get_domain(request.param[0], solo=request.param[1])


def test_policy_and_tools_are_the_official_ones(domain: Domain) -> None:
    environment = load(f"domains.{domain.name}.environment").get_environment(solo_mode=domain.solo)
    assert domain.policy == environment.get_policy()
    agent = [tool.openai_schema for tool in environment.get_tools()]
    user = [tool.openai_schema for tool in environment.get_user_tools()] if environment.user_tools else []
    assert domain.user_tools == user
    assert domain.tools == ([*agent, *user, DONE] if domain.solo else agent)
    names = [tool["function"]["name"] for tool in domain.tools]
    assert (
        len(names)
        == len(set(names))
        == {"airline": 14, "retail": 16, "telecom": 44 if domain.solo else 13}[domain.name]
    )


def test_responses_to_reference_actions_are_the_official_ones(domain: Domain) -> None:
    compared = 0
    for record in sample(domain):
        ours, theirs = domain.start(record.id), official_environment(domain, record)
        assert hashes(ours.environment) == hashes(theirs), "the initial state"
        looks = [(name, arguments, "assistant") for name, arguments in LOOKS[domain.name]]
        reference = [
            (action["name"], action["arguments"], "assistant" if domain.solo else action.get("requestor", "assistant"))
            for action in (record.answers or {})["actions"]
        ]
        for name, arguments, requestor in [*looks, *reference, *looks]:
            assert ours.call(name, arguments, requestor) == official_response(theirs, name, arguments, requestor), name
            compared += 1
        assert hashes(ours.environment) == hashes(theirs), "the end state"
    assert compared >= 20


def test_wrong_calls_get_the_official_errors(domain: Domain) -> None:
    record = sample(domain)[0]
    ours, theirs = domain.start(record.id), official_environment(domain, record)
    errors = 0
    for name, arguments in WRONG:
        for requestor in ("assistant", "user"):
            answer = ours.call(name, arguments, requestor)  # type: ignore[arg-type]
            assert answer == official_response(theirs, name, arguments, requestor), (name, arguments, requestor)
            assert answer[1] == answer[0].startswith("Error: ")
            errors += answer[1]
    assert errors > len(WRONG)
    assert hashes(ours.environment) == hashes(theirs)


def random_calls(domain: Domain, rng: random.Random, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls with values from the domain's reference actions, some for parameters that they were not meant for."""
    pool: dict[str, list[Any]] = {}
    for record in tasks(domain.name, "base", domain.data.parents[1]):
        for action in (record.answers or {})["actions"]:
            for name, value in action["arguments"].items():
                pool.setdefault(name, []).append(value)
    anything = [value for values in pool.values() for value in values]
    for _ in range(number):
        tool = rng.choice(domain.tools)["function"]
        names = list(tool["parameters"]["properties"])
        yield tool["name"], {name: rng.choice(pool.get(name, anything)) for name in names}


def test_random_calls_get_the_official_responses(domain: Domain) -> None:
    record = sample(domain)[0]
    ours, theirs = domain.start(record.id), official_environment(domain, record)
    for name, arguments in random_calls(domain, random.Random(2), 150):
        answer = ours.call(name, arguments)
        assert answer == official_response(theirs, name, arguments, "assistant"), (name, arguments)
        if name == "refuel_data" and not answer[1]:
            return  # from here on the official environment has a bill with a random id
    assert hashes(ours.environment) == hashes(theirs)


def test_sessions_and_the_shared_database_keep_apart(domain: Domain) -> None:
    first, second = sample(domain)[:2]
    before = {record.id: hashes(domain.start(record.id).environment) for record in (first, second)}
    quiet = domain.start(first.id)
    loud: list[Session] = [domain.start(first.id), domain.start(second.id)]
    answered = Counter[bool]()
    for name, arguments in random_calls(domain, random.Random(1), 150):
        for session in loud:
            answered[session.call(name, arguments)[1]] += 1
    assert answered[False] > 30
    assert hashes(loud[0].environment) != before[first.id], "the calls changed something"
    assert hashes(quiet.environment) == before[first.id]
    for record in (first, second):
        assert hashes(domain.start(record.id).environment) == before[record.id]


def test_only_touched_records_differ_from_the_shared_ones(tau2_official: Path) -> None:
    domain = get_domain("retail", solo=False)
    for record in sample(domain):
        session = domain.start(record.id)
        for action in (record.answers or {})["actions"]:
            session.call(action["name"], action["arguments"])
        for table in session.tables.values():
            assert len(table.touched) < 10
            for key in table:
                if fingerprint(dict.__getitem__(table, key)) != fingerprint(table.shared[key]):
                    assert key in table.touched


def test_equal_calls_get_equal_words_in_every_session(tau2_official: Path) -> None:
    domain = get_domain("telecom", solo=True)
    refuel = {"customer_id": "C1003", "line_id": "L1009", "gb_amount": 2.0}
    answers = []
    for _ in range(2):
        session = domain.start(sample(domain)[0].id)
        charge = json.loads(session.call("refuel_data", refuel)[0])["charge"]
        old, made = json.loads(session.call("get_details_by_id", {"id": "C1003"})[0])["bill_ids"]
        bill = json.loads(session.call("get_details_by_id", {"id": made})[0])
        assert (old, bill["bill_id"], bill["total_due"], bill["status"]) == ("B1006", made, float(charge), "Draft")
        answers.append(made)
    assert answers[0] == answers[1]


def test_a_broken_vpn_stays_in_its_session(tau2_official: Path) -> None:
    # The official toolkit keeps the default VPN on its class, where breaking it breaks that of later environments.
    domain = get_domain("telecom", solo=True)
    broken = domain.start(sample(domain)[0].id)
    broken.environment.user_tools.break_vpn()
    assert "'server_performance': <PerformanceLevel.POOR" in broken.call("check_vpn_status", {})[0]
    fresh = domain.start(sample(domain)[0].id)
    fresh.call("connect_vpn", {})
    assert "'server_performance': <PerformanceLevel.EXCELLENT" in fresh.call("check_vpn_status", {})[0]


def test_recorded_responses_of_real_agents_are_given_again(tau2_official: Path, tau2_simulations: Path) -> None:
    counts = Counter[bool]()
    for path in sorted(tau2_simulations.glob("*.json")):
        domain = get_domain(path.name.split("_")[0], solo="_solo_" in path.name)
        for simulation in json.loads(path.read_text(encoding="utf-8"))["simulations"]:
            session = domain.start(simulation["task_id"])
            calls = {}
            for message in simulation["messages"]:
                calls.update({call["id"]: call for call in message.get("tool_calls") or ()})
                if message["role"] == "tool":
                    call = calls[message["id"]]
                    answer = session.call(call["name"], call["arguments"], call["requestor"])
                    counts[answer == (message["content"], message["error"])] += 1
    assert counts == {True: 2838}  # two older commits of the package, and not one word is different


SUMS = (
    *("2 ** 10", "2**-3", "0 ** 0", "(1 + 1) ** (2 + 3) // 3", "1.5 ** 100000", "10 ** 400", "7 ** (2 ** 12)", "2 **"),
    *("((2 ** 3) ** 2) ** 5", "9 ** 0.5", "1 ** 99999999999", "(2**8", "-2 ** 2 ** 3", "9**9/9**9", "0 ** -1"),
)


def test_powers_are_calculated_as_officially_but_for_those_without_an_end(tau2_official: Path) -> None:
    domain = get_domain("retail", solo=False)
    record = sample(domain)[0]
    ours, theirs = domain.start(record.id), official_environment(domain, record)
    for text in SUMS:
        arguments = {"expression": text}
        assert ours.call("calculate", arguments) == official_response(theirs, "calculate", arguments, "assistant"), text
    for text in (
        "9**9**9",
        "9**9**9**9",
        "(9**9)**(9**9)",
        "1 + (2 ** 3 ** 99) / 7",
        "2 ** (2 ** (2 ** 9))",
        "3**10**9",
    ):
        assert ours.call("calculate", {"expression": text}) == ("Error: int too large to convert to float", True)


def test_no_solo_mode_and_no_such_domain(tau2_data: Path) -> None:
    with pytest.raises(RwmlError) as error:
        get_domain("airline", tau2_data, solo=True)
    assert error.value.what == "airline has no solo mode"
    with pytest.raises(RwmlError) as error:
        get_domain("telekom", tau2_data, solo=True)
    assert "did you mean 'telecom'?" in error.value.fix
