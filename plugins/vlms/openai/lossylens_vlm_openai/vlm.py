"""A model behind a server, behind the core's contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lossylens.errors import ConfigError, LossylensError
from lossylens.toolkit.openai_client import (
    ChatClient,
    NoReplyError,
    NoReplyYetError,
    Server,
    ServerUnavailableError,
)
from lossylens.toolkit.openai_reply import Reply
from lossylens.vlm import Answer, ImageQuestions, Question, QuestionKind, Vlm, default_prompt
from PIL.Image import Image

from lossylens_vlm_openai.pictures import SharedFolder, grey, within_request
from lossylens_vlm_openai.plugin import OpenAIOptions, Prices

# Fields of the request that are not the user's to set.
_OURS = {"model", "messages", "stream", "stream_options", "n"}

# What no server that answers questions about images could object to.
_CONTROL = Question(QuestionKind.YES_NO, "Is this image grey?")

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
        with within_request(grey()) as address:
            control = self._messages(_CONTROL, address)
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
            ),
            control,
        )
        self._failed_in_a_row = 0
        self._refused: Image | None = None
        self._end: LossylensError | None = None
        self._address = _addresses(options)
        self.batch_images = options.batch_images or 2 * options.concurrency

    def answer(self, batch: Sequence[ImageQuestions]) -> list[list[Answer]]:
        """Answer all questions of all images, in order; see :class:`Vlm`.

        An error that ends the run is raised by the next call, if this one has answers
        to give: they may have been paid for.  What is without an answer then has
        failed for now.

        Raises:
            ConfigError: the server refuses key, model or address.
            ServerUnavailableError: it cannot be reached, lets nobody in for long, or
                fails on everything.
        """
        if self._end is not None:
            end, self._end = self._end, None
            raise end
        answers: dict[Place, Answer] = {}
        try:
            self._answer(batch, answers)
        except LossylensError as error:
            if all(answer.transient for answer in answers.values()):
                raise
            self._end = error
        missing = Answer(None, f"not asked: {self._end}", transient=True)
        return [
            [answers.get((image, number), missing) for number in range(len(item.questions))]
            for image, item in enumerate(batch)
        ]

    def _answer(self, batch: Sequence[ImageQuestions], answers: dict[Place, Answer]) -> None:
        """Ask all questions, and fill *answers*, also where an error is raised."""
        pending: dict[Future[Answer], Place] = {}

        def ask(image: int, numbers: range) -> None:
            for number in numbers:
                question = batch[image].questions[number]
                future = pool.submit(self._ask, question, addresses[image])
                pending[future] = (image, number)

        try:
            with contextlib.ExitStack() as files, self._pool() as pool:
                addresses: dict[int, str] = {}
                for image, item in enumerate(batch):
                    count = len(item.questions)
                    if count:
                        addresses[image] = files.enter_context(self._address(item.image))
                        ask(image, range(1 if self.options.warm_first else count))
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        image, number = pending.pop(future)
                        answer = answers[image, number] = future.result()
                        self._count(answer, batch[image].image)
                        if number == 0 and self.options.warm_first:
                            ask(image, range(1, len(batch[image].questions)))
        finally:
            # What was under way when something else went wrong.
            for future, place in pending.items():
                if not future.cancelled() and future.exception() is None:
                    answers[place] = future.result()

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
        except NoReplyYetError as error:
            return Answer(None, str(error), transient=True)
        return Answer(reply.text, usage=_usage(reply, self.options.prices))

    def _count(self, answer: Answer, image: Image) -> None:
        """Take note of an answer to a question about *image*.

        Raises:
            ServerUnavailableError: too many in a row have failed.
        """
        if answer.text is not None:
            self._failed_in_a_row, self._refused = 0, None
            return
        # All questions about an image may be refused for the same reason.
        if answer.transient or image is not self._refused:
            self._failed_in_a_row += 1
        if not answer.transient:
            self._refused = image
        if 0 < self.options.failures <= self._failed_in_a_row:
            raise ServerUnavailableError(
                f"{answer.failure}; {self._failed_in_a_row} requests in a row failed, so "
                "something is wrong with the server or the options"
            )

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
