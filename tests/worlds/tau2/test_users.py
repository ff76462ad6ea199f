"""The official user simulator against a real server on this machine that answers from a script."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rwml.core.types import StopReason
from rwml.playing.rollout import Game, seats_for
from rwml.worlds.tau2 import package
from rwml.worlds.tau2.world import Tau2World

REASON = package.available()
if not REASON and not importlib.util.find_spec("litellm"):
    REASON = "the official user simulator needs litellm: pip install 'rwml[tau2-user]'"
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

Server = Callable[[list[Any]], tuple[str, list[dict[str, Any]]]]


def _message(content: str | None = None, *calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(calls)
        ]
    return message


@pytest.fixture
def serve() -> Iterator[Server]:
    """serve(script) -> (base URL, requests received). An item of the script is a message, or an HTTP status."""
    servers = []

    def start(script: list[Any]) -> tuple[str, list[dict[str, Any]]]:
        left, seen = list(script), []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                item = left.pop(0) if left else 400
                status = item if isinstance(item, int) else 200
                choice = {"index": 0, "finish_reason": "stop", "message": item}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
                body |= {"error": {"message": "out of order"}} if status != 200 else {"choices": [choice]}
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _world(url: str, domain: str = "retail") -> Tau2World:
    arguments = {"api_base": url, "api_key": "none", "num_retries": 0, "max_retries": 0}
    return Tau2World(domains=(domain,), solo=False, user="openai/scripted", user_args=arguments)


def test_the_user_hears_the_agent_and_its_thinking_stays_its_own(serve: Server) -> None:
    url, seen = serve([
        _message("<think>I am to return a lamp.</think>Hello, I want to return a lamp."),
        _message("My name is Yusuf."),
        _message("Thanks! ###STOP###"),
    ])  # fmt: skip
    world = _world(url)
    task = world.tasks("train")[0]
    env = world.env()
    opening = env.reset(task, seed=123)
    assert opening.endswith("User: Hello, I want to return a lamp.")
    result = env.step("Who are you?")
    assert (result.observation, result.kind, result.terminated) == ("My name is Yusuf.", "user", False)
    end = env.step("Done.")
    assert (end.observation, end.terminated) == ("Thanks! ###STOP###", True)
    assert [request["seed"] for request in seen] == [123] * 3
    record = env._session.task  # type: ignore[union-attr]
    assert record.scenario["instructions"]["reason_for_call"] in seen[0]["messages"][0]["content"]
    messages = [(message["role"], message["content"]) for message in seen[2]["messages"][1:]]
    assert messages == [
        ("user", "Hi! How can I help you today?"),
        ("assistant", "Hello, I want to return a lamp."),
        ("user", "Who are you?"),
        ("assistant", "My name is Yusuf."),
        ("user", "Done."),
    ]
    # The instructions of the user stay with the user; who it is may be known to a world model.
    assert record.scenario["instructions"]["reason_for_call"] not in opening
    known = world.world_model_opening(task, opening)
    assert known.startswith(opening)
    assert "About the user: name: " in known


def test_the_users_own_tools_work_and_the_agent_sees_none_of_it(serve: Server) -> None:
    url, seen = serve([
        _message("My data does not work."),
        _message(None, ("check_status_bar", {})),
        _message(None, ("toggle_airplane_mode", {}), ("no_such_tool", {})),
        _message("It shows a plane."),
    ])  # fmt: skip
    world = _world(url, "telecom")
    env = world.env()
    env.reset(world.tasks("train")[0])
    assert env.step("Look at the status bar, please.").observation == "It shows a plane."
    assert {tool["function"]["name"] for tool in seen[0]["tools"]} >= {"check_status_bar", "toggle_airplane_mode"}
    answers = [message["content"] for message in seen[3]["messages"] if message["role"] == "tool"]
    assert answers[0].startswith("Status Bar:")
    assert answers[1].startswith("Airplane Mode is now")
    assert answers[2] == "Error: Tool 'no_such_tool' not found."


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ([_message("Hello."), 400], "BadRequestError"),
        ([_message("Hello."), _message("<think>hm</think>")], "the user model said nothing"),
        ([_message("Hello."), *[_message(None, ("check_status_bar", {}))] * 40], "called tools 30 times"),
    ],
)
def test_a_user_that_fails_is_a_failed_episode_with_its_cause(serve: Server, script: list[Any], cause: str) -> None:
    url, _ = serve(script)
    world = _world(url, "telecom")
    game = Game(seats_for(world.tasks("train")[:1], 1, 0)[0], world.env(), "model", 10)
    game.start()
    assert game.stop is None
    game.play("What is wrong?", "What is wrong?")
    episode = game.finish().episode
    assert episode.stop is StopReason.ERROR
    assert cause in episode.error
    assert not episode.success


def test_a_user_that_cannot_be_reached_fails_at_the_start() -> None:
    world = _world("http://127.0.0.1:9/v1")
    game = Game(seats_for(world.tasks("train")[:1], 1, 0)[0], world.env(), "model", 10)
    game.start()
    assert game.stop is StopReason.ERROR
    assert "InternalServerError" in game.error or "Connection" in game.error
