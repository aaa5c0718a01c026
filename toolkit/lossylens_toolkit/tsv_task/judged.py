"""The base of tasks whose unread answers a language model may read."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from lossylens.errors import PluginError
from lossylens.failure import Failure

from lossylens_toolkit.tsv_task.judge import Judge
from lossylens_toolkit.tsv_task.tsv_base import Judged, TsvTask, Verdict
from lossylens_toolkit.tsv_task.tsv_options import JudgedOptions
from lossylens_toolkit.tsv_task.tsv_table import Row

_log = logging.getLogger(__name__)


class JudgedTask(TsvTask):
    """A task that asks a judge about answers that could not be read, if there is one.

    As in the reference evaluator, a judge sees only these, its reply is read by
    the same rules, and an answer that it does not make clear is wrong.  So is one
    that it refuses to read; but without a judge that can be reached nothing is
    scored.  The wording of the prompt is not the evaluator's.

    Args:
        options: which name the file and the judge.

    Raises:
        PluginError: the spec names options that have no judge.
    """

    #: How often the judge is asked about an answer.
    judge_tries: ClassVar[int]

    def __init__(self, options: JudgedOptions) -> None:
        if not isinstance(options, JudgedOptions):
            raise PluginError(
                f"{type(self).__name__}: a task that a judge may help has JudgedOptions, not"
                f" {type(options).__name__}; name them, or what derives from them, in its TaskSpec"
            )
        self.judge = Judge(options.judge) if options.judge.url or options.judge.model else None
        super().__init__(options)

    @abstractmethod
    def judge_prompt(self, row: Row, prediction: str) -> str:
        """Return what the judge is asked about *prediction*."""

    def second_opinions(self, judged: Sequence[Judged]) -> list[Judged]:
        """Replace the verdicts on answers that could not be read by the judge's.

        Raises:
            ConfigError: the judge's server refuses the settings.
            TransientError, RequirementError: the judge does not reply for now.
        """
        if self.judge is None:
            return list(judged)
        unread = [each for each in judged if not each.verdict.found]
        opinions = {
            each.row.id: opinion
            for each, opinion in zip(unread, self.judge.map(self._read, unread), strict=True)
        }
        unclear = [each for each in opinions.values() if each is None]
        refused = [each for each in opinions.values() if isinstance(each, Failure)]
        counted = "%d of %d answers; they count as wrong"
        if unclear:
            _log.warning(f"the judge made nothing of {counted}", len(unclear), len(unread))
        if refused:
            _log.warning(
                f"there is no reply of the judge to {counted}. The first reason: %s",
                *(len(refused), len(unread), refused[0].reason),
            )
        verdicts = {row: each for row, each in opinions.items() if isinstance(each, Verdict)}
        return [replace(each, verdict=verdicts.get(each.row.id, each.verdict)) for each in judged]

    def provenance(self) -> Mapping[str, str]:
        """Return the file, its checksums, and the judge."""
        judge = self.judge.provenance() if self.judge else {"judge": "none"}
        return {**super().provenance(), **judge}

    def _read(self, each: Judged) -> Verdict | Failure | None:
        """Return the judge's verdict; see :meth:`Judge.read`."""
        assert self.judge is not None

        def understood(reply: str) -> Verdict | None:
            verdict = self.verdict(each.row, reply)
            return verdict if verdict.found else None

        prompt = self.judge_prompt(each.row, each.prediction)
        return self.judge.read(prompt, understood, self.judge_tries)
