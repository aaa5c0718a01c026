#!/usr/bin/env python3
"""Install what this folder brings and this machine lacks, and run the check on a GPU.

    python3 run.py [--target FOLDER] [options of benchmarks/gpu.py]

Nothing is taken from a package index and nothing is changed outside the target, by default a
temporary folder.  What the machine has in a version that suits is left alone; our own
distributions are always installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from pip._vendor.packaging.specifiers import SpecifierSet

HERE = Path(__file__).resolve().parent


def suits(name: str, needed: dict[str, str]) -> bool:
    """Return whether the machine has *name* in a version that all accept who need it."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return all(SpecifierSet(each).contains(found, prereleases=True) for each in needed.values())


def chosen(manifest: dict[str, Any]) -> list[Path]:
    """Return the wheels that are to be installed, each as the manifest says it is."""
    found = []
    for wheel in manifest["wheels"]:
        if wheel["ours"] or not suits(wheel["name"], wheel["needed"]):
            path = HERE / "wheels" / wheel["file"]
            if hashlib.sha256(path.read_bytes()).hexdigest() != wheel["sha256"]:
                raise SystemExit(f"{path} is damaged; copy the folder again")
            found.append(path)
    return found


def warn(manifest: dict[str, Any]) -> None:
    """Say what the machine was expected to have and has not, or in another version."""
    for name, needed in {**manifest["assumed"], **manifest["lacking"]}.items():
        if suits(name, needed):
            continue
        try:
            found = f"is {metadata.version(name)} here"
        except metadata.PackageNotFoundError:
            found = "is not here"
        asked = ", ".join(sorted({version or "any version" for version in needed.values()}))
        print(f"note: {name} {found}; wanted: {asked}", file=sys.stderr)


def main() -> int:
    """Install and run; return the exit status of the check."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--target", type=Path, help="where to install; a temporary folder")
    arguments, options = parser.parse_known_args()
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    warn(manifest)
    with tempfile.TemporaryDirectory() as temporary:
        target = arguments.target or Path(temporary)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        pip += ["--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", str(target)]
        subprocess.run([*pip, *map(str, chosen(manifest))], check=True)
        paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, str(HERE / "benchmarks/gpu.py"), *options]
        return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
