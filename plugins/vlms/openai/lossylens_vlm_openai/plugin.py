"""Registers the VLM ``openai``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lossylens.hookspecs import hookimpl
from lossylens.spec import MANDATORY, OPERATIONAL, path_if
from lossylens.vlm import VlmSpec


@dataclass
class Prices:
    """Prices per million tokens, in any currency.

    Attributes:
        input: of the prompt, images included.
        cached_input: of what the server had in its prefix cache; null: as ``input``.
        output: of the answer.
    """

    input: float = 0.0
    cached_input: float | None = None
    output: float = 0.0


@dataclass
class OpenAIOptions:
    """Options of a model behind a server.

    Attributes:
        url: of the interface, such as ``http://localhost:8000/v1``.
        model: name of the model there.
        key_variable: name of the environment variable with the key, never the key
            itself; the variable may be unset for a server that asks for none.
        system: system prompt; empty for none.
        detail: resolution that hosted models give the image: ``low``, ``high`` ...;
            empty leaves it to the server.
        temperature: 0 for greedy decoding; null for models that take none.
        max_tokens: limit on answers to questions that set none.
        limit_field: name of the limit in the request; newer hosted models take
            ``max_completion_tokens``.
        extra: further fields of the request, such as ``seed``.
        image_folder: where the server, too, can read image files; empty to send
            images within the request.
        image_url: address of that folder as the server knows it; empty for the
            ``file://`` address of the folder.
        concurrency: requests under way at a time.
        batch_images: images per batch; 0 for twice ``concurrency``.
        warm_first: ask the first question of an image before the others, so that
            these find the image in the server's prefix cache.
        timeout: seconds that one attempt may take.
        tries: attempts for each question.
        pause: seconds before the second attempt; doubled before each further one.
        longest_pause: seconds; the run stops where a server asks to wait longer.
        failures: questions in a row that may fail before the run stops; 0 for any.
        prices: to have the cost of each answer in the store; not needed where the
            server tells the cost.
    """

    url: str = MANDATORY
    model: str = MANDATORY
    key_variable: str = field(default="OPENAI_API_KEY", metadata=OPERATIONAL)
    system: str = ""
    detail: str = ""
    temperature: float | None = 0.0
    max_tokens: int = 512
    limit_field: str = "max_tokens"
    extra: dict[str, Any] = field(default_factory=dict)
    image_folder: str = field(default="", metadata={**OPERATIONAL, **path_if(bool)})
    image_url: str = field(default="", metadata=OPERATIONAL)
    concurrency: int = field(default=8, metadata=OPERATIONAL)
    batch_images: int = field(default=0, metadata=OPERATIONAL)
    warm_first: bool = field(default=True, metadata=OPERATIONAL)
    timeout: float = field(default=120.0, metadata=OPERATIONAL)
    tries: int = field(default=8, metadata=OPERATIONAL)
    pause: float = field(default=1.0, metadata=OPERATIONAL)
    longest_pause: float = field(default=120.0, metadata=OPERATIONAL)
    failures: int = field(default=32, metadata=OPERATIONAL)
    prices: Prices = field(default_factory=Prices, metadata=OPERATIONAL)


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register ``openai``."""
    register(
        VlmSpec(
            name="openai",
            aliases=("openai-compatible",),
            summary="any model behind a server with the OpenAI interface (vLLM, SGLang, ...)",
            category="remote",
            factory="lossylens_vlm_openai.vlm:OpenAIVlm",
            options=OpenAIOptions,
            parameters=0,
            max_images=100,
            citation="OpenAI API reference, chat completions",
            licence="Apache-2.0",
        )
    )
