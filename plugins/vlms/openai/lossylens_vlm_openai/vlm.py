"""A model behind a server, behind the core's contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lossylens.errors import ConfigError, LossylensError
from lossylens.vlm import (
    Answer,
    ImageQuestions,
    Question,
    QuestionKind,
    Vlm,
    default_prompt,
    interleaved,
)
from lossylens_toolkit.openai_client import (
    ChatClient,
    NoReplyError,
    NoReplyYetError,
    Server,
    ServerUnavailableError,
)
from lossylens_toolkit.openai_reply import Reply
from PIL.Image import Image

from lossylens_vlm_openai.pictures import SharedFolder, grey, within_request
from lossylens_vlm_openai.plugin import OpenAIOptions, Prices

# Fields of the request that are not the user's to set.
_OURS = {"model", "messages", "stream", "stream_options", "n"}

# What no server that answers questions about images could object to.
_CONTROL = Question(QuestionKind.YES_NO, "Is this image grey?")

Place = tuple[int, int]
"""Number of the item in the batch, and of the question in it."""

Content = list[str | Image]
"""Texts and images, in the order in which they are sent."""


class OpenAIVlm(Vlm):
    """A model behind a server with the OpenAI chat interface.

    Each question is a request of its own, with the images at the markers in its text and
    else before it, so that all questions about the same images share the longest possible
    prefix, and the first of them is answered before the others are asked: a server with a
    prefix cache (vLLM, SGLang, hosted models) then encodes and prefills an image once.

    Raises:
        ConfigError: an option is unfit.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self.options = options
        if clash := _OURS & set(options.extra) or {options.limit_field} & set(options.extra):
            raise ConfigError(f"openai: extra must not hold {', '.join(sorted(clash))}")
        picture = grey()
        with within_request(picture) as address:
            control = self._messages([picture, default_prompt(_CONTROL)], {id(picture): address})
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
        self._refused: tuple[Image | None, ...] = ()
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
        contents, refused = _contents(batch)
        try:
            self._answer(batch, contents, answers)
        except LossylensError as error:
            if all(answer.transient for answer in answers.values()):
                raise
            self._end = error
        answers.update(refused)
        missing = Answer(None, f"not asked: {self._end}", transient=True)
        return [
            [answers.get((place, number), missing) for number in range(len(item.questions))]
            for place, item in enumerate(batch)
        ]

    def _answer(
        self,
        batch: Sequence[ImageQuestions],
        contents: Sequence[Mapping[int, Content]],
        answers: dict[Place, Answer],
    ) -> None:
        """Ask all questions that have a content, and fill *answers*, also after an error."""
        pending: dict[Future[Answer], Place] = {}

        def ask(place: int, numbers: Sequence[int]) -> None:
            for number in numbers:
                question, content = batch[place].questions[number], contents[place][number]
                future = pool.submit(self._ask, question, content, addresses)
                pending[future] = (place, number)

        try:
            with contextlib.ExitStack() as files, self._pool() as pool:
                addresses: dict[int, str] = {}
                first = 1 if self.options.warm_first else None
                waiting = [list(asked) for asked in contents]
                for place, asked in enumerate(contents):
                    for image in _images(asked):
                        if id(image) not in addresses:
                            addresses[id(image)] = files.enter_context(self._address(image))
                    ask(place, waiting[place][:first])
                    del waiting[place][:first]
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        place, number = pending.pop(future)
                        answer = answers[place, number] = future.result()
                        self._count(answer, batch[place].images)
                        ask(place, waiting[place])
                        waiting[place].clear()
        finally:
            # What was under way when something else went wrong.
            for future, under_way in pending.items():
                if not future.cancelled() and future.exception() is None:
                    answers[under_way] = future.result()

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

    def _ask(self, question: Question, content: Content, addresses: Mapping[int, str]) -> Answer:
        try:
            reply = self._client.complete(
                self._messages(content, addresses), **self._parameters(question)
            )
        except NoReplyError as error:
            return Answer(None, str(error))
        except NoReplyYetError as error:
            return Answer(None, str(error), transient=True)
        return Answer(reply.text, usage=_usage(reply, self.options.prices))

    def _count(self, answer: Answer, images: tuple[Image | None, ...]) -> None:
        """Take note of an answer to a question about *images*.

        Raises:
            ServerUnavailableError: too many in a row have failed.
        """
        if answer.text is not None:
            self._failed_in_a_row, self._refused = 0, ()
            return
        # All questions about an image may be refused for the same reason.
        if answer.transient or list(map(id, images)) != list(map(id, self._refused)):
            self._failed_in_a_row += 1
        if not answer.transient:
            self._refused = images
        if 0 < self.options.failures <= self._failed_in_a_row:
            raise ServerUnavailableError(
                f"{answer.failure}; {self._failed_in_a_row} requests in a row failed, so "
                "something is wrong with the server or the options"
            )

    def _messages(self, content: Content, addresses: Mapping[int, str]) -> list[dict[str, Any]]:
        parts = [
            {"type": "text", "text": each}
            if isinstance(each, str)
            else {"type": "image_url", "image_url": self._picture(addresses[id(each)])}
            for each in content
        ]
        system = self.options.system
        opening = [{"role": "system", "content": system}] if system else []
        return [*opening, {"role": "user", "content": parts}]

    def _picture(self, address: str) -> dict[str, str]:
        detail = self.options.detail
        return {"url": address, "detail": detail} if detail else {"url": address}

    def _parameters(self, question: Question) -> dict[str, Any]:
        limit = question.max_new_tokens or self.options.max_tokens
        parameters: dict[str, Any] = {self.options.limit_field: limit}
        if self.options.temperature is not None:
            parameters["temperature"] = self.options.temperature
        return {**parameters, **self.options.extra}

    def provenance(self) -> Mapping[str, str]:
        """Return in what form images are sent; what the server runs is not known here."""
        return {"image format": "PNG"}


def _contents(
    batch: Sequence[ImageQuestions],
) -> tuple[list[dict[int, Content]], dict[Place, Answer]]:
    """Return per item what is sent for each question, and why others cannot be asked."""
    contents: list[dict[int, Content]] = [{} for _ in batch]
    refused: dict[Place, Answer] = {}
    for place, item in enumerate(batch):
        for number, question in enumerate(item.questions):
            try:
                parts = interleaved(default_prompt(question), len(item.images))
            except ValueError as error:
                refused[place, number] = Answer(None, str(error))
            else:
                contents[place][number] = [_shown(part, item) for part in parts]
    return contents, refused


def _shown(part: str | int, item: ImageQuestions) -> str | Image:
    if isinstance(part, str):
        return part
    image = item.images[part]
    if image is None:
        raise ValueError("an image was not decoded")
    return image


def _images(contents: Mapping[int, Content]) -> Iterator[Image]:
    """Yield the images that are sent."""
    for content in contents.values():
        yield from (part for part in content if not isinstance(part, str))


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
