"""Reports that are written anew while runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lossylens.errors import ConfigError, StoreError
from lossylens.store.database import Store
from lossylens.store.read_models import latest_run

#: Seconds between two looks at the runs, and after which the page reloads itself.
INTERVAL = 10


def watch_runs(
    sources: Sequence[str | Path],
    write: Callable[[int], None],
    say: Callable[[str], None],
    interval: float = INTERVAL,
) -> None:
    """Write a report whenever a run has gone on, and at last when all have ended.

    Args:
        sources: of the report; run folders among them, which may still be empty.
        write: writes it; is given the seconds after which the page is to reload itself, 0 for
            the last time.
        say: is told what is waited for.
        interval: seconds between two looks.

    Raises:
        ConfigError: no run folder is among the sources.
        LossylensError: whatever *write* raises, other than for a run that has not begun.
    """
    folders = [Path(each) for each in sources if Path(each).is_dir()]
    if not folders:
        raise ConfigError(f"--watch: {', '.join(map(str, sources))}: no run folder is among these")
    seen: object = None
    try:
        while True:
            # Looked at before it is written, so that nothing is missed meanwhile.
            state, ended = [_state(each) for each in folders], all(map(_ended, folders))
            if not all(state):
                if state != seen:
                    say("waiting for the run to begin; Ctrl+C ends this")
            elif ended or state != seen:
                write(0 if ended else INTERVAL)
            if ended:
                return
            seen = state
            time.sleep(interval)
    except KeyboardInterrupt:
        say("no longer watched; the page is as it was written last")


def _state(folder: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes whenever a run goes on; nothing before it begins."""
    files = [folder / f"run.sqlite{end}" for end in ("", "-wal")]
    found = [each.stat() for each in files if each.exists()]
    return tuple((each.st_mtime_ns, each.st_size) for each in found) if _begun(folder) else ()


def _begun(folder: Path) -> bool:
    try:
        with Store(folder, writable=False) as store:
            return latest_run(store) is not None
    except StoreError:
        return False


def _ended(folder: Path) -> bool:
    try:
        with Store(folder, writable=False) as store:
            latest = latest_run(store)
    except StoreError:
        return False
    return latest is not None and latest.ended is not None
