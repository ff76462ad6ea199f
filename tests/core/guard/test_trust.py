"""The user's words: what needs one, what a word allows, where words come from, and what never leaves a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import Server, allow, check_code, check_server, forget_words, given_words, refuse_secrets


def server(url: str, key_env: str = "") -> Server:
    return Server.of("judge.base_url", url, key_env)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's config file is in this test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "rwml").mkdir()
    return tmp_path / "rwml" / "config.toml"


def test_code_needs_a_word_and_the_message_says_which() -> None:
    named = [("world.name", "mine:World"), ("train_wm.reward", "yours:Reward"), ("measure.held_out", "mine:World")]
    with pytest.raises(RwmlError) as error:
        check_code(named)
    assert error.value.what.endswith(
        "world.name = 'mine:World', train_wm.reward = 'yours:Reward', measure.held_out = 'mine:World'"
    )
    assert "add --allow-code mine:World --allow-code yours:Reward, or" in error.value.fix
    allow(code=["mine:World"])
    with pytest.raises(RwmlError) as error:
        check_code(named)
    assert error.value.what == "this would run code that you have not allowed: train_wm.reward = 'yours:Reward'"
    allow(code=["yours:Reward"])
    check_code(named)
    for near in ("mine:world", "mine:World ", "mine:Worlds", "mine", "MINE:World"):
        with pytest.raises(RwmlError, match="not allowed"):
            check_code([("world.name", near)])


def test_escapes_in_a_name_are_words() -> None:
    with pytest.raises(RwmlError) as error:
        check_code([("world.name", "a\x1b]0;title\x07:B\nwhat to do: nothing")])
    assert "\x1b" not in str(error.value)
    assert "\n" not in error.value.what


@pytest.mark.parametrize(
    ("url", "key_env"),
    [
        ("http://127.0.0.1:8000/v1", ""),
        ("http://localhost/v1", ""),
        ("http://[::1]:8000/v1", ""),
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://API.openai.com:443/v1", "OPENAI_API_KEY"),
        ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("https://openrouter.ai/api/v1", ""),
    ],
)
def test_servers_that_are_asked_without_a_word(url: str, key_env: str) -> None:
    check_server("judge.base_url", server(url, key_env))


@pytest.mark.parametrize(
    ("url", "key_env", "word"),
    [
        ("http://127.0.0.1:8000/v1", "AWS_SECRET_ACCESS_KEY", "--allow-key AWS_SECRET_ACCESS_KEY@127.0.0.1:8000"),
        ("http://localhost/v1", "OPENAI_API_KEY", "--allow-key OPENAI_API_KEY@localhost"),
        ("http://api.openai.com/v1", "OPENAI_API_KEY", "--allow-key OPENAI_API_KEY@api.openai.com"),
        ("https://api.openai.com:8443/v1", "OPENAI_API_KEY", "--allow-key OPENAI_API_KEY@api.openai.com:8443"),
        ("https://api.openai.com.evil.org/v1", "OPENAI_API_KEY", "--allow-key OPENAI_API_KEY@api.openai.com.evil.org"),
        ("https://api.openai.com/v1", "ANTHROPIC_API_KEY", "--allow-key ANTHROPIC_API_KEY@api.openai.com"),
        ("https://api.openai.com/v1", "HOME", "--allow-key HOME@api.openai.com"),
        ("http://10.0.0.7:8000/v1", "", "--allow-host 10.0.0.7:8000"),
        ("http://127.0.0.1.evil.org/v1", "", "--allow-host 127.0.0.1.evil.org"),
        ("http://0x7f.1/v1", "", "--allow-host 0x7f.1"),
    ],
)
def test_servers_that_need_a_word(url: str, key_env: str, word: str) -> None:
    with pytest.raises(RwmlError, match="which you have not allowed") as error:
        check_server("judge.base_url", server(url, key_env))
    assert f"add {word}, or" in error.value.fix
    flag, given = word.split()
    allow(**{"keys" if flag == "--allow-key" else "hosts": [given]})
    check_server("judge.base_url", server(url, key_env))
    with pytest.raises(RwmlError, match="which you have not allowed"):
        check_server("judge.base_url", server(url, "ANOTHER_KEY"))
    forget_words()
    host = given.rpartition("@")[2].partition(":")[0]
    allow(**{"keys": [f"{key_env}@{host}"]} if key_env else {"hosts": [host]})
    check_server("judge.base_url", server(url, key_env))


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000/v1", "ftp://host/v1", "file:///etc/passwd", "http://", "http:///v1", "http://a b/v1"),
        *("https://api.openai.com\\@evil.org/v1", "https://h\u00f6st.org/v1", "http://host/v1\n", "http://host:x/v1"),
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(RwmlError, match=r"judge.base_url (= .* is no URL|holds more)"):
        server(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://user:hushhush@host/v1", "http://hushhush@host/v1", "https://api.openai.com@hushhush.org/v1"),
        *("http://host/v1?api_key=hushhush", "http://host/v1#hushhush", "http://host:80@hushhush/v1"),
    ],
)
def test_a_url_that_holds_more_than_an_address_is_not_shown(url: str) -> None:
    with pytest.raises(RwmlError, match="holds more than a server's address") as error:
        server(url)
    assert "hushhush" not in str(error.value)
    assert "environment variable" in error.value.fix


def test_a_key_in_the_place_of_its_name_is_not_shown() -> None:
    with pytest.raises(RwmlError, match="is no name of an environment variable") as error:
        server("http://127.0.0.1/v1", "hush-hush-key")
    assert "hush" not in str(error.value)


def test_words_of_the_config_file(config: Path) -> None:
    config.write_text(
        'allow_code = ["mine:World"]\nallow_keys = ["MY_KEY@judge.org"]\nallow_hosts = ["gpu1"]\n', encoding="utf-8"
    )
    check_code([("world.name", "mine:World")])
    check_server("judge.base_url", server("https://judge.org:8443/v1", "MY_KEY"))
    check_server("judge.base_url", server("http://gpu1:8000/v1"))
    assert given_words() == {"code": [], "keys": [], "hosts": []}, "they are read, and not taken"
    for other in (server("https://judge.org/v1", "OTHER_KEY"), server("http://gpu2:8000/v1")):
        with pytest.raises(RwmlError, match="not allowed"):
            check_server("judge.base_url", other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("allow_code = [", "cannot be read"),
        ("\x80", "cannot be read"),
        ('allow_cod = ["a:B"]', "allow_cod is no list that is known"),
        ('allow_code = "a:B"', "allow_code is no list that is known"),
        ("allow_code = [1]", "allows nothing"),
        ('allow_keys = ["MY_KEY"]', "'MY_KEY' allows nothing"),
        ('allow_keys = ["MY_KEY@http://host"]', "allows nothing"),
        ('allow_hosts = ["*"]', "allows nothing"),
        ("[keys]\nMY_KEY = 'host'", "keys is no list that is known"),
    ],
)
def test_a_config_file_that_says_something_else(config: Path, text: str, words: str) -> None:
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(RwmlError, match=words):
        check_code([("world.name", "a:B")])


def test_words_travel_to_another_process() -> None:
    allow(code=["b:B", "a:A"], keys=["K@h"], hosts=["h:1"])
    words = given_words()
    assert words == {"code": ["a:A", "b:B"], "keys": ["K@h"], "hosts": ["h:1"]}
    forget_words()
    allow(**words)
    assert given_words() == words


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"world": {"options": {"user_args": {"api_key": "hushhush"}}}}, "world.options.user_args.api_key"),
        ({"world": {"options": {"headers": {"Authorization": "hushhush"}}}}, "world.options.headers.Authorization"),
        ({"world": {"options": {"db-password": "hushhush"}}}, "world.options.db-password"),
        ({"world": {"options": {"users": [{"token": "hushhush"}]}}}, "world.options.users.token"),
        ({"judge": {"base_url": "http://me:hushhush@host/v1"}}, "judge.base_url"),
        ({"judge": {"base_url": "http://host/v1?api_key=hushhush"}}, "judge.base_url"),
        ({"judge": {"api_key_env": "sk-hushhush0123456789"}}, "judge.api_key_env"),
        ({"model": {"path": "https://hf:hushhush@huggingface.co/a/b"}}, "model.path"),
        ({"compare": {"arms": [{"set": {"judge.base_url": "http://hushhush@host/v1"}}]}}, "compare.arms.set.judge"),
        ({"measure": {"held_out": [{"options": {"auth_token": "hushhush"}}]}}, "measure.held_out.options.auth_token"),
        ({"name": "hf_hushhush0123456789012345"}, "name"),
    ],
)
def test_a_recipe_that_holds_a_key_is_refused_without_showing_it(data: dict[str, object], place: str) -> None:
    with pytest.raises(RwmlError, match=f"r.toml: {place}.* holds a key") as error:
        refuse_secrets(data, "r.toml")
    assert "hushhush" not in str(error.value)
    assert "api_key_env" in error.value.fix


def test_what_is_no_key_is_no_fault() -> None:
    refuse_secrets(
        {
            "collect": {"max_new_tokens": 512, "policy": "noisy:0.4"},
            "judge": {"api_key_env": "OPENAI_API_KEY", "base_url": "http://localhost:8000/v1"},
            "world": {"options": {"user_args": {"api_key": "none"}, "key": "brass", "tokens": "7", "password": ""}},
            "model": {"path": "Qwen/Qwen2.5-0.5B-Instruct"},
            "note": "write to a@b.org, task-1234 sk-1",
        },
        "r.toml",
    )
    deep: dict[str, object] = {}
    for _ in range(50_000):
        deep = {"a": deep}
    refuse_secrets(deep, "r.toml")
