"""Getting the files that plugins lack, from where their authors have put them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lossylens.errors import RequirementError
from lossylens.registry.import_paths import import_object

if TYPE_CHECKING:
    from lossylens.spec import FileSource

#: Weights in PyTorch's own format, which are left alone where there are safetensors.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

#: Weights for other frameworks.
_OTHERS = ("*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.tflite", "*.mlmodel")


def fetch_source(source: FileSource) -> Path:
    """Get a file or repository, going on where an earlier attempt broke off; return where it is.

    Args:
        source: one that is fetchable.

    Raises:
        DataError: a file cannot be had, or is not the one that is expected.
        RequirementError: a repository cannot be had, or a package is missing that gets it.
    """
    try:
        if source.address.startswith("hf:"):
            return _from_hub(source)
        # Imported here, so that the command is listed without it.
        download = import_object("lossylens_toolkit.download:download")
    except ModuleNotFoundError as error:
        extra = "transformers-vlm" if source.address.startswith("hf:") else "remote"
        raise RequirementError(
            f"fetching needs {error.name}: pip install 'lossylens-toolkit[{extra}]'"
        ) from error
    target = Path(source.target)
    download(source.address, target, sha256=source.sha256)
    return target


def _from_hub(source: FileSource) -> Path:
    import httpx2
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    owner, name, *file = source.address.removeprefix("hf:").split("/", 2)
    repository = f"{owner}/{name}"
    try:
        if file:
            target = Path(source.target)
            path = huggingface_hub.hf_hub_download(repository, file[0], local_dir=target.parent)
            return Path(path).replace(target)
        files = huggingface_hub.HfApi().list_repo_files(repository)
        safe = any(each.endswith(".safetensors") for each in files)
        ignored = [*_OTHERS, *(_PICKLES if safe else ())]
        return Path(huggingface_hub.snapshot_download(repository, ignore_patterns=ignored))
    except (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        httpx2.HTTPError,
        OSError,
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequirementError(
            f"{repository} cannot be had from the Hugging Face hub: {reason}; where it wants"
            " a login, accept its licence there and `hf auth login`"
        ) from error
