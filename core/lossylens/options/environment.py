"""What a configuration takes from the environment, and how that stays out of what is written.

``${oc.env:NAME}`` is what one writes to keep a secret out of a file, so its value goes to
the plugin alone.  Stores, manifests, reports and messages have the text as written; what a
value decides, its SHA-256 stands for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from lossylens.errors import LossylensError

#: Keys, or positions in lists, that lead to a value.
Place = tuple[str | int, ...]

# A value as short as this is found anywhere, so that it must stand by itself.
_SHORT = 5
# Messages cut long values off; what begins like one is hidden as well.
_BEGINNING = 16

_MARK = re.compile("\0([0-9]+)\0")
# What refers to another part of the configuration.
_REFERENCE = re.compile(r"\$\{[^:{}]*\}|\boc\.(select|dict)\b")

_reads: ContextVar[dict[str, str] | None] = ContextVar("reads", default=None)
_symbolic: ContextVar[bool] = ContextVar("symbolic", default=False)


# What OmegaConf 2.4 calls register_resolver.
_register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)


def _env(key: Any, *default: Any) -> Any:
    """OmegaConf's ``oc.env``; notes what was read, or gives the text that reads it."""
    reads = _reads.get()
    text = f"${{oc.env:{key}}}"
    if _symbolic.get() and str(key).startswith("${"):
        return text  # the name was read from the environment, too
    if reads is None or key not in os.environ:
        return oc.env(key, *default)
    reads[os.environ[key]] = text
    return text if _symbolic.get() else os.environ[key]


@dataclass(frozen=True)
class Environment:
    """What values of a configuration owe to the environment.

    Attributes:
        texts: place of each value that depends on it, and the text in its stead, which
            has ``${oc.env:NAME}`` for what was read.
        digests: SHA-256 of each of these values.
        secrets: what was read, and the text that reads it.
    """

    texts: Mapping[Place, str] = field(default_factory=dict)
    digests: Mapping[Place, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def within(self, *keys: str) -> Environment:
        """Return the same for the part of the configuration at *keys*."""
        depth = len(keys)

        def inside(places: Mapping[Place, str]) -> dict[Place, str]:
            return {place[depth:]: each for place, each in places.items() if place[:depth] == keys}

        return Environment(inside(self.texts), inside(self.digests), self.secrets)

    def hidden(self, text: str) -> str:
        """Return *text* with what reads a value in place of the value."""
        found: list[str] = []
        for secret, written in sorted(self.secrets.items(), key=lambda each: -len(each[0])):
            found.append(written)
            # What was written is not searched for other values.
            mark = f"\0{len(found) - 1}\0"
            for form in {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}:
                text = _hidden(text, form, mark)
        return _MARK.sub(lambda mark: found[int(mark[1])], text)

    @contextmanager
    def out_of_messages(self) -> Iterator[None]:
        """Keep values out of the messages of errors that the user can act on."""
        try:
            yield
        except LossylensError as error:
            text = self.hidden(str(error))
            if text == str(error):
                raise
            raise type(error)(text) from None


def _hidden(text: str, secret: str, mark: str) -> str:
    if not secret.strip():
        return text
    if len(secret) <= _SHORT:
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", mark, text)
    text = text.replace(secret, mark)
    if len(secret) > _BEGINNING:
        beginning = secret[:_BEGINNING]
        while (start := text.find(beginning)) >= 0:
            end = start + _BEGINNING
            while text[end : end + 1] == secret[end - start : end - start + 1] != "":
                end += 1
            text = text[:start] + mark + text[end:]
    return text


def resolve(written: Mapping[str, Any]) -> tuple[dict[str, Any], Environment]:
    """Return a configuration with ``${...}`` resolved, and what it owes to the environment.

    Raises:
        OmegaConfBaseException: something in it cannot be resolved.
    """
    config = OmegaConf.create(dict(written))
    with reading() as environment:
        values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    resolved = {str(key): value for key, value in values.items()}
    texts: dict[Place, str] = {}
    digests: dict[Place, str] = {}
    if environment.secrets:
        for place, text, value in _dependent(config, ()):
            texts[place] = text
            digests[place] = _digest(value)
    return resolved, Environment(texts, digests, environment.secrets)


@contextmanager
def reading() -> Iterator[Environment]:
    """Note what is read from the environment meanwhile."""
    _register("oc.env", _env, replace=True)
    secrets: dict[str, str] = {}
    token = _reads.set(secrets)
    try:
        yield Environment(secrets=secrets)
    finally:
        _reads.reset(token)


def _dependent(config: Any, place: Place) -> Iterator[tuple[Place, str, Any]]:
    """Yield place, text and value of all that depends on the environment."""
    keys = list(config) if OmegaConf.is_dict(config) else range(len(config))
    for key in keys:
        here = (*place, key)
        if OmegaConf.is_interpolation(config, key):
            with reading() as environment:
                value = _plain(config[key])
            if environment.secrets:
                yield here, _text(config, key), value
        elif OmegaConf.is_config(child := config._get_node(key)) and child._value() is not None:
            yield from _dependent(child, here)


def _text(config: Any, key: Any) -> str:
    """Return the text of an interpolation, if it can be with nothing in it but the environment."""
    written = str(config._get_node(key)._value())
    if not _REFERENCE.search(written):
        return written
    token = _symbolic.set(True)
    try:
        with reading():
            text = config[key]
    except OmegaConfBaseException:
        text = None
    finally:
        _symbolic.reset(token)
    # A resolver may need the value itself.
    return text if isinstance(text, str) else written


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _digest(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
