"""The fidelity metrics that a run can measure: names, what they need, and whether it is there.

A metric is a number per decoded image, or per set of them, that says how far it is from
what the codec was given.  This module imports nothing heavy; the metrics themselves are
in :mod:`lossylens.run.picture_distances` and :mod:`lossylens_toolkit.fidelity_networks`.

Backbone weights are never downloaded.  They are looked for where PyTorch keeps its
downloads, and compared with the hash in their name before they are used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from lossylens.errors import RequirementError
from lossylens.registry.import_paths import import_object
from lossylens.spec import FileSource, Missing


@dataclass(frozen=True)
class BackboneWeights:
    """Weights of a backbone.

    Attributes:
        file: name under which the libraries look for them; it ends in the first digits
            of the file's SHA-256.
        megabytes: size.
        source: address of the file.
        licence: of the weights.
    """

    file: str
    megabytes: int
    source: str
    licence: str

    @property
    def path(self) -> Path:
        """Where they have to be."""
        return hub_folder() / "checkpoints" / self.file

    @property
    def digits(self) -> str:
        """First digits of the SHA-256."""
        return Path(self.file).stem.rpartition("-")[2]

    def missing(self) -> Missing | None:
        """Return what is wrong with the file, None if it is there and whole."""
        get = f"download {self.source} to {self.path}"
        source = FileSource(
            self.source, str(self.path), self.megabytes / 1000, self.licence, self.digits
        )
        if not self.path.is_file():
            return Missing(f"weights {self.file} ({self.megabytes} MB)", get, source)
        with self.path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(self.digits):
                return None
        found = f"the hash of {self.path} is another{self._instead()}"
        return Missing(f"whole weights {self.file}: {found}", get, source)

    def _instead(self) -> str:
        """Say in parentheses what the file is, if it is no checkpoint at all."""
        try:
            import_object(_CHECKPOINT_KIND)(self.path)
        except RequirementError as error:
            return f" ({str(error).removeprefix(f'{self.path}: ')})"
        except ModuleNotFoundError:
            # Without the toolkit there are no metrics that need weights.
            return ""
        return ""


def hub_folder() -> Path:
    """Return the folder of ``torch.hub``, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"


_TORCHVISION = "https://download.pytorch.org/models"
ALEXNET = BackboneWeights(
    "alexnet-owt-7be5be79.pth",
    233,
    f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
    "BSD-3-Clause",
)
VGG16 = BackboneWeights(
    "vgg16-397923af.pth", 528, f"{_TORCHVISION}/vgg16-397923af.pth", "BSD-3-Clause"
)
INCEPTION = BackboneWeights(
    "weights-inception-2015-12-05-6726825d.pth",
    91,
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
    "/weights-inception-2015-12-05-6726825d.pth",
    "Apache-2.0",
)


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """A fidelity metric.

    Attributes:
        name: in configurations and in the store.
        title: in reports.
        definition: what else decides its values.
        packages: distributions that it needs, besides torch; the first one computes it.
        factory: import path of a function that returns the metric as a function of the
            original and the decoded image; for a metric per set, as a function of one
            image that returns its features.
        weights: of its backbone.
        per_set: whether it compares sets of images instead of images.
        higher_is_better: direction.
    """

    name: str
    title: str
    definition: str
    factory: str
    packages: tuple[str, ...] = ()
    weights: BackboneWeights | None = None
    per_set: bool = False
    higher_is_better: bool = False

    @cached_property
    def method(self) -> str:
        """All that decides its values; what was measured by another method is measured anew."""
        versions = [f"{name} {_version(name)}" for name in self.packages[:1]]
        backbone = [self.weights.file] if self.weights else []
        return ", ".join([*versions, self.definition, *backbone])

    def missing(self) -> Iterator[Missing]:
        """Yield what it needs and this machine lacks."""
        for package in ("torch", *self.packages) if self.packages else ():
            if not _version(package):
                yield Missing(f"package {package}", "pip install 'lossylens-toolkit[fidelity]'")
        found = self.weights.missing() if self.weights else None
        if found:
            yield found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


# What computes these metrics is named as plugins name theirs, and imported when it is needed.
_NETWORKS = "lossylens_toolkit.fidelity_networks"
_CHECKPOINT_KIND = "lossylens_toolkit.checkpoint_file:kind"

#: All metrics by name.
FIDELITIES = {
    each.name: each
    for each in (
        Fidelity(
            name="psnr",
            title="PSNR",
            definition="8-bit RGB, error of all samples together",
            factory="lossylens.run.picture_distances:make_psnr",
            higher_is_better=True,
        ),
        Fidelity(
            name="ms-ssim",
            title="MS-SSIM",
            definition="8-bit RGB, five scales, mean of the channels",
            packages=("pytorch-msssim",),
            factory=f"{_NETWORKS}:make_ms_ssim",
            higher_is_better=True,
        ),
        Fidelity(
            name="lpips",
            title="LPIPS",
            definition="AlexNet, version 0.1",
            packages=("torchmetrics", "torchvision"),
            factory=f"{_NETWORKS}:make_lpips",
            weights=ALEXNET,
        ),
        Fidelity(
            name="dists",
            title="DISTS",
            definition="at the image's own size",
            packages=("torchmetrics", "torchvision"),
            factory=f"{_NETWORKS}:make_dists",
            weights=VGG16,
        ),
        Fidelity(
            name="fid",
            title="FID",
            definition="whole images, bilinear as TensorFlow 1",
            packages=("torchmetrics", "torchvision", "torch-fidelity"),
            factory=f"{_NETWORKS}:make_inception",
            weights=INCEPTION,
            per_set=True,
        ),
    )
}


def check_fidelities(names: Sequence[str]) -> None:
    """Make sure that nothing is missing that the metrics in *names* need.

    Raises:
        RequirementError: something is; the message lists it with the remedies.
    """
    lacking: dict[Missing, list[str]] = {}
    for name in names:
        for each in FIDELITIES[name].missing():
            lacking.setdefault(each, []).append(name)
    if not lacking:
        return
    listed = "\n".join(
        f"  for {', '.join(users)}: {each.what}: {each.remedy}" for each, users in lacking.items()
    )
    raise RequirementError(
        f"run.fidelity cannot be measured as asked, because this is missing:\n{listed}"
    )
