"""``lossylens run``: the benchmark; resumes by itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from lossylens.cli import FAILED, INTERRUPTED
from lossylens.cli.status_command import progress_of
from lossylens.errors import ConfigError, RequirementError

if TYPE_CHECKING:
    from lossylens.grid.config import Config
    from lossylens.store.records import ScoredCell
    from lossylens.task import Primary


def run(
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as run.limit=10."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="N/COUNT", help="Do a share of the images, such as 3/16; the key run.shard."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Run a grid of codecs, VLMs and tasks, or what is left of it.

    Started again with the same run folder, it takes up where it was stopped.
    """
    from lossylens.grid.config import load_config
    from lossylens.grid.shard import Shard
    from lossylens.run.driver import run as do

    here = Path.cwd()
    if shard is not None and Shard.of(shard) is None:
        raise ConfigError(f"--shard: expected a share such as 3/16, got {shard!r}")
    chosen = [f"run.shard={shard}"] if shard else []
    loaded = load_config(config, [*(overrides or ()), *chosen])
    previous = signal.signal(signal.SIGINT, _interrupt)
    try:
        with loaded.readable_errors():
            said: list[str] = []
            say = _say if not dry_run else said.append if as_json else print
            failed = do(loaded, say, dry=dry_run)
    except KeyboardInterrupt:
        if loaded.run.out.exists():
            folder = loaded.readable(str(loaded.run.out))
            _say(f"What was finished is in {folder}; the same command goes on with it.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, previous)
    if dry_run:
        if as_json:
            print(json.dumps({"to_do": said}, indent=2))
        return
    if loaded.shard:
        _say(
            f"Share {loaded.shard} is in {loaded.readable(str(loaded.run.out))}; join all with"
            " `lossylens merge FOLDER... --out OUT` and start the run with that run.out."
        )
    else:
        # A plugin may have gone elsewhere; the report reads relative paths of options again.
        os.chdir(here)
        with loaded.readable_errors():
            if as_json:
                content = {**progress_of(loaded.run.out), "reports": list(_reports(loaded))}
                print(json.dumps(content, indent=2))
            else:
                _show_results(loaded)
                for path in _reports(loaded):
                    print(f"Report: {path}")
    if failed:
        _say(f"{failed} samples failed; why is in the report.")
        raise typer.Exit(FAILED)


def _reports(config: Config) -> Iterator[str]:
    """Write what plugins make of the run; yield where it is."""
    from lossylens.registry.plugins import load_registry

    folder = config.readable(str(config.run.out))
    # Those that the configuration leaves out of the run may report it all the same.
    registry = load_registry(strict=False)
    reports = registry.all("report")
    if not reports:
        _say(
            "No report: no plugin that writes one; pip install 'lossylens[report]', or"
            " ./plugins/reports/html in a clone of the repository, then"
            f" `lossylens report {folder}`"
        )
    for each in reports:
        try:
            path = registry.build_report(each.spec.name).write(config.run.out)
        except RequirementError as error:
            # The run is complete without it.
            _say(f"No report: {error}; then `lossylens report {folder}`")
        else:
            yield config.readable(str(path))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # The second time, Ctrl-C kills: nothing that is in the store can be lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _say("\nStopping; press Ctrl-C again to stop at once.")
    raise KeyboardInterrupt


def _show_results(config: Config) -> None:
    """Print the scores: a row for each model, codec and level, two columns for each task."""
    from lossylens.cli.terminal_tables import print_table
    from lossylens.store.database import Store

    with Store(config.run.out, writable=False) as store:
        cells = store.scored_cells()
    primary = {each.label: each.spec.primary for each in config.tasks}
    tasks = list(dict.fromkeys(each.task for each in cells))
    table: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
    for each in cells:
        key = (each.vlm, each.adaptor, each.codec, each.level)
        shown = (_number(each.rate, 3), _score(each, primary[each.task]))
        table.setdefault(key, {})[each.task] = shown
    headers = ["VLM", "adaptor", "codec", "level"]
    headers += [name for task in tasks for name in (f"{task} bpp", task)]
    rows = [
        [*key, *(text for task in tasks for text in results[task])]
        for key, results in table.items()
    ]
    print_table(headers, rows)


def _score(cell: ScoredCell, primary: Primary) -> str:
    score = _number(None if cell.value is None else primary.shown(cell.value), 2)
    counts = [f"{cell.failed} failed"] if cell.failed else []
    if cell.limited:
        counts.append(f"limited to {cell.asked_images} images")
    return f"{score} ({', '.join(counts)})" if counts else score


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
