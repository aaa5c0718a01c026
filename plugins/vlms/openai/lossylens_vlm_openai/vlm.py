"""A model behind a server, behind the core's contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lossylens.errors import ConfigError
from lossylens.toolkit.openai_client import ChatClient, NoReplyError, Reply, Server
from lossylens.vlm import Answer, ImageQuestions, Question, Vlm, default_prompt
from PIL.Image import Image

from lossylens_vlm_openai.pictures import SharedFolder, within_request
from lossylens_vlm_openai.plugin import OpenAIOptions, Prices

# Fields of the request that are not the user's to set.
_OURS = {"model", "messages", "stream", "stream_options", "n"}

Place = tuple[int, int]
"""Number of the image in the batch, and of the question about it."""


class OpenAIVlm(Vlm):
    """A model behind a server with the OpenAI chat interface.

    Each question is a request of its own, with the image before the text, so that
    all questions about an image share the longest possible prefix, and the first
    of them is answered before the others are asked: a server with a prefix cache
    (vLLM, SGLang, hosted models) then encodes and prefills an image once.

    Raises:
        ConfigError: an option is unfit.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self.options = options
        if clash := _OURS & set(options.extra) or {options.limit_field} & set(options.extra):
            raise ConfigError(f"openai: extra must not hold {', '.join(sorted(clash))}")
        self._client = ChatClient(
            Server(
                name="openai",
                url=options.url,
                model=options.model,
                key_variable=options.key_variable,
                timeout=options.timeout,
                tries=options.tries,
                pause=options.pause,
                longest_pause=options.longest_pause,
                connections=options.concurrency,
                failures=options.failures,
            )
        )
        self._address = _addresses(options)
        self.batch_images = options.batch_images or 2 * options.concurrency

    def answer(self, batch: Sequence[ImageQuestions]) -> list[list[Answer]]:
        """Answer all questions of all images, in order; see :class:`Vlm`.

        Raises:
            ConfigError: the server refuses key, model or address.
            ServerUnavailableError: it cannot be reached, lets nobody in for long, or
                fails on everything; nothing of the batch is recorded as failed.
        """
        answers = [[Answer(None)] * len(item.questions) for item in batch]
        pending: dict[Future[Answer], Place] = {}
        with contextlib.ExitStack() as files, self._pool() as pool:
            addresses: dict[int, str] = {}

            def ask(image: int, numbers: range) -> None:
                for number in numbers:
                    question = batch[image].questions[number]
                    future = pool.submit(self._ask, question, addresses[image])
                    pending[future] = (image, number)

            for image, item in enumerate(batch):
                count = len(item.questions)
                if count:
                    addresses[image] = files.enter_context(self._address(item.image))
                    ask(image, range(1 if self.options.warm_first else count))
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    image, number = pending.pop(future)
                    answers[image][number] = future.result()
                    if number == 0 and self.options.warm_first:
                        ask(image, range(1, len(batch[image].questions)))
        return answers

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Yield threads that ask; after an error those that wait give up."""
        pool = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="openai")
        try:
            yield pool
        except BaseException:
            self._client.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            self._client.resume()

    def _ask(self, question: Question, address: str) -> Answer:
        try:
            reply = self._client.complete(
                self._messages(question, address), **self._parameters(question)
            )
        except NoReplyError as error:
            return Answer(None, str(error))
        return Answer(reply.text, usage=_usage(reply, self.options.prices))

    def _messages(self, question: Question, address: str) -> list[dict[str, Any]]:
        picture = {"url": address}
        if self.options.detail:
            picture["detail"] = self.options.detail
        content = [
            {"type": "image_url", "image_url": picture},
            {"type": "text", "text": default_prompt(question)},
        ]
        system = self.options.system
        opening = [{"role": "system", "content": system}] if system else []
        return [*opening, {"role": "user", "content": content}]

    def _parameters(self, question: Question) -> dict[str, Any]:
        limit = question.max_new_tokens or self.options.max_tokens
        parameters: dict[str, Any] = {self.options.limit_field: limit}
        if self.options.temperature is not None:
            parameters["temperature"] = self.options.temperature
        return {**parameters, **self.options.extra}

    def provenance(self) -> Mapping[str, str]:
        """Return in what form images are sent; what the server runs is not known here."""
        return {"image format": "PNG"}


def _addresses(options: OpenAIOptions) -> Callable[[Image], AbstractContextManager[str]]:
    """Return what gives an image an address for as long as it is asked about."""
    if options.image_folder:
        return SharedFolder(Path(options.image_folder), options.image_url)
    if options.image_url:
        raise ConfigError("openai: image_url is the address of image_folder; give both")
    return within_request


def _usage(reply: Reply, prices: Prices) -> dict[str, float]:
    """Return tokens and cost; the user's prices count, else what the server says."""
    usage = dict(reply.usage)
    priced = prices.input or prices.output or prices.cached_input
    if not priced or "input_tokens" not in usage:
        return usage
    cached = min(usage.get("cached_tokens", 0), usage["input_tokens"])
    cached_price = prices.input if prices.cached_input is None else prices.cached_input
    millionths = (
        (usage["input_tokens"] - cached) * prices.input
        + cached * cached_price
        + usage.get("output_tokens", 0) * prices.output
    )
    return {**usage, "cost": millionths / 1e6}
