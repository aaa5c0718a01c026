"""Options of tasks that read a TSV file."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossylens.spec import MANDATORY, OPERATIONAL, path_if

#: In place of a path: the published file is to be downloaded.
DOWNLOAD = "download"


@dataclass
class TsvOptions:
    """Options of a task that reads a TSV file.

    Attributes:
        data: path of the file; ``~`` stands for the home folder.  ``download``
            fetches the published file to the cache, once.
    """

    # What decides results is the file's checksum: see TsvTask.fingerprint.
    data: str = field(
        default=MANDATORY,
        metadata={**OPERATIONAL, **path_if(lambda text: text not in (DOWNLOAD, MANDATORY))},
    )


@dataclass
class JudgeOptions:
    """Which language model to ask, if any.

    Attributes:
        url: of the server's interface, such as ``http://localhost:8000/v1``;
            empty for no judge.
        model: name of the model there.
        key_variable: environment variable that holds the key; it may be unset.
        workers: how many answers are read at a time.
        timeout: seconds that one attempt may take.
        tries: how often a request is sent while the server fails.
        pause: seconds before the second try, doubled before each further one.
        max_tokens: limit on the length of a reply.
    """

    url: str = ""
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    workers: int = 4
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0
    max_tokens: int = 256


@dataclass
class JudgedOptions(TsvOptions):
    """Options of a task that can be judged.

    Attributes:
        judge: a language model that reads the answers which the rules cannot
            read; none by default, which is how published results were scored.
    """

    judge: JudgeOptions = field(default_factory=JudgeOptions)
