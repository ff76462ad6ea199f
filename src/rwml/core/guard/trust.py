"""What the user allowed a recipe beyond reading it: code to run, keys to send, servers to ask.

A recipe and a run folder are data: whoever opens a stranger's runs nothing of theirs, and sends nothing. What they name
beyond that needs the user's word: `allow` in this process (the command line's --allow-code, --allow-key, --allow-host),
or the same lists in the user's own config file. docs/reference/trust.md describes both.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.shown import is_placeholder, remember_secret, shown

KNOWN_KEYS = {
    "ANTHROPIC_API_KEY": "api.anthropic.com",
    "CEREBRAS_API_KEY": "api.cerebras.ai",
    "DEEPSEEK_API_KEY": "api.deepseek.com",
    "FIREWORKS_API_KEY": "api.fireworks.ai",
    "GEMINI_API_KEY": "generativelanguage.googleapis.com",
    "GROQ_API_KEY": "api.groq.com",
    "HF_TOKEN": "router.huggingface.co",
    "MISTRAL_API_KEY": "api.mistral.ai",
    "OPENAI_API_KEY": "api.openai.com",
    "OPENROUTER_API_KEY": "openrouter.ai",
    "TOGETHER_API_KEY": "api.together.xyz",
    "XAI_API_KEY": "api.x.ai",
}
"""Keys and the one server that each is for. Over https they go there unasked."""

KINDS = ("allow_code", "allow_keys", "allow_hosts")
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:/[!-~]*)?")
_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|\[::1\]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS: dict[str, set[str]] = {kind: set() for kind in KINDS}


def allow(code: Iterable[str] = (), keys: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
    """Take the user's word, for as long as the process lives.

    code: `module:Name`, or the `model.path` of a model that brings code. keys: NAME@HOST, an environment variable and
    the server that its value may go to. hosts: servers that may be asked without a key. HOST may end in :PORT.
    RwmlError for a word that allows nothing.
    """
    for kind, given in zip(KINDS, (code, keys, hosts), strict=True):
        for word in given:
            _check_word(kind, word)
            _WORDS[kind].add(word)


def given_words() -> dict[str, list[str]]:
    """What `allow` has taken, as its own arguments: for a process that this one starts."""
    return {kind.removeprefix("allow_"): sorted(words) for kind, words in _WORDS.items()}


def forget_words() -> None:
    """Take back every word that `allow` has taken."""
    for words in _WORDS.values():
        words.clear()


def config_path() -> Path:
    """The user's config file: rwml/config.toml in $XDG_CONFIG_HOME, or in ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "rwml" / "config.toml"


def check_code(named: Iterable[tuple[str, str]]) -> None:
    """RwmlError for code that the user has not allowed. named: where, and what: `module:Name` or a model's path."""
    wanted = [(place, name) for place, name in named if not _is_allowed("allow_code", [name])]
    if not wanted:
        return
    listed = ", ".join(f"{place} = '{shown(name, 200)}'" for place, name in wanted)
    flags = " ".join(dict.fromkeys(shlex.join(["--allow-code", shown(name, 200)]) for _, name in wanted))
    raise RwmlError(
        f"this would run code that you have not allowed: {listed}",
        "a recipe or a run folder of a stranger could so do anything that you can do",
        f"if you know that code, add {flags}, or name it under allow_code in {config_path()}; "
        "in Python: allow_code=[...]",
    )


@dataclass(frozen=True, slots=True)
class Server:
    """A server and the environment variable whose value it is sent, "" for none."""

    scheme: str
    host: str
    port: str
    key_env: str

    @classmethod
    def of(cls, place: str, url: str, key_env: str) -> Server:
        """Read from a URL. place: where it stands, for the RwmlError of what is no URL and of one that holds a key."""
        match = _URL.fullmatch(url)
        if match is None or "?" in url or "#" in url:
            what = (
                "holds more than a server's address" if re.search("[@?#]", url) else f"= '{shown(url, 200)}' is no URL"
            )
            raise RwmlError(
                f"{place} {what}",
                "requests go to that address, and a name, a key or a query in it would be written into files",
                'write "http://HOST:PORT/v1" or "https://HOST/v1", and put a key into an environment variable that '
                "api_key_env names",
            )
        if key_env and not _NAME.fullmatch(key_env):
            raise RwmlError(
                f"api_key_env beside {place} is no name of an environment variable",
                "a key itself would be written into files and messages",
                "put the key into an environment variable, and its name here",
            )
        return cls(match[1], match[2].lower().rstrip("."), match[3] or "", key_env)

    @property
    def address(self) -> str:
        """Host and port, as a word that allows it has them."""
        return f"{self.host}:{self.port}" if self.port else self.host

    @property
    def harmless(self) -> bool:
        """Whether it is on this machine and is sent no key."""
        return not self.key_env and bool(_LOOPBACK.fullmatch(self.host))

    @property
    def is_known(self) -> bool:
        """Whether the key is the one that this server is known for."""
        hosts = [KNOWN_KEYS.get(self.key_env)] if self.key_env else KNOWN_KEYS.values()
        return self.scheme == "https" and self.port in ("", "443") and self.host in hosts

    @property
    def sentence(self) -> str:
        """What goes there, in one line."""
        key = f"with the key in {self.key_env}" if self.key_env else "without a key"
        return f"requests go to {self.scheme}://{self.address}, {key}"

    def key(self) -> str:
        """The value of its environment variable; from now on it is in no message. RwmlError where it is not set."""
        value = os.environ.get(self.key_env, "").strip()
        if value:
            remember_secret(self.key_env, value)
        if not value or not value.isascii() or not value.isprintable():
            raise RwmlError(
                f"the environment variable '{self.key_env}' "
                + ("holds characters that no key has" if value else "is not set"),
                f"requests to {self.address} are signed with the key that it holds",
                f"export {self.key_env}=..., or set api_key_env to nothing for a server without keys",
            )
        return value


def check_server(place: str, server: Server) -> None:
    """RwmlError where a recipe would send requests, or the value of an environment variable, to whom nobody allowed.

    Allowed are servers on this machine without a key, the pairs of `KNOWN_KEYS`, and the user's own words.
    """
    if server.harmless or server.is_known:
        return
    key_env = server.key_env
    kind, before = ("allow_keys", f"{key_env}@") if key_env else ("allow_hosts", "")
    if _is_allowed(kind, [f"{before}{server.address}", f"{before}{server.host}"]):
        return
    word = f"--allow-key {key_env}@{server.address}" if key_env else f"--allow-host {server.address}"
    what = f"the value of the environment variable {key_env}" if key_env else "the texts of this run"
    raise RwmlError(
        f"{place} would send {what} to {server.scheme}://{server.address}, which you have not allowed",
        "a recipe or a run folder of a stranger could so send your keys and data anywhere",
        f"if that is yours to ask, add {word}, or name it under {kind} in {config_path()}; in Python: {kind}=[...]",
    )


def _is_allowed(kind: str, words: Iterable[str]) -> bool:
    wanted = set(words)
    return bool(wanted & _WORDS[kind]) or bool(wanted & _configured()[kind])


def _check_word(kind: str, word: Any) -> None:
    key, mark, host = str(word).rpartition("@")
    fits = isinstance(word, str) and bool(word.strip())
    if kind == "allow_keys":
        fits = fits and bool(mark and _NAME.fullmatch(key) and _URL.fullmatch(f"https://{host}"))
    elif kind == "allow_hosts":
        fits = fits and bool(_URL.fullmatch(f"https://{word}"))
    if not fits:
        form = {"allow_code": "module:Name", "allow_keys": "NAME@HOST", "allow_hosts": "HOST or HOST:PORT"}[kind]
        raise RwmlError(f"{kind}: '{shown(str(word), 100)}' allows nothing", "it is of another form", f"write {form}")


def _configured() -> dict[str, set[str]]:
    path = config_path()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {kind: set() for kind in KINDS}
    except (OSError, ValueError, RecursionError) as error:
        raise RwmlError(
            f"'{path}' cannot be read: {shown(str(error), 200)}",
            "it says which code and which servers you allow",
            "mend it, or remove it",
        ) from None
    for key, words in data.items():
        if key not in KINDS or not isinstance(words, list):
            raise RwmlError(
                f"'{path}': {shown(key, 100)} is no list that is known",
                "what it should allow stays refused",
                nearest(key, KINDS),
            )
        for word in words:
            _check_word(key, word)
    return {kind: set(data.get(kind, ())) for kind in KINDS}


_SECRET_KEY = re.compile(
    r"(?i)(^|[_.-])(api[_-]?key|apikey|access[_-]?key(_id)?|secret(_\w+)?|password|passwd|passphrase|authorization|"
    r"private[_-]?key|credentials?|bearer|(access|auth|api|hf|bearer|session|refresh)[_-]?token|token)$"
)
_SECRET_TEXT = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}"
    r"|xox[abp]-[0-9A-Za-z-]{10,}|gsk_[A-Za-z0-9]{20,})|://[^/\s@]+@"
    r"|[?&](?i:api[_-]?key|key|token|access_token|auth|secret|password|sig|signature)=|(?i:\bbearer\s+[\w.~+/-]{6,})"
)


def refuse_secrets(data: Mapping[str, Any], source: str) -> None:
    """RwmlError where a recipe's data hold a key: a run writes its recipe into its folder. The message holds no key."""
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{place}.{key}".strip("."), inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(place, inner) for inner in value]
        elif isinstance(value, str):
            named = _SECRET_KEY.search(place) and not is_placeholder(value)
            if named or _SECRET_TEXT.search(value):
                raise RwmlError(
                    f"{source}: {shown(place, 200)} holds a key",
                    "a run writes its recipe into recipe.json and its report, where others read it",
                    'put the key into an environment variable, and name that one: judge.api_key_env = "NAME", or '
                    'world.options.user_args = { api_key_env = "NAME" } for tau2',
                )
