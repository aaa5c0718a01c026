"""The adaptor: a private copy of the vision encoder, tuned, in the place of the VLM's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from lossylens.adaptor import Adaptor, Needs
from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, VisionAccess, VisionEncoder, VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import Checkpoint, file_hash, read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header, has_seen
from torch import Tensor, nn

from lossylens_adaptor_cve.conditions import Labels, Vocabulary, make_conditioner
from lossylens_adaptor_cve.lora import lora_changes, merge_lora
from lossylens_adaptor_cve.options import CveOptions

METHOD = "cve"

#: Values of each tensor that stand for it in the hash of an encoder.
_HASHED = 4096


class ConditionalVisionEncoder(Adaptor):
    """See the module.

    Raises:
        ConfigError: an entry of ``map`` names a codec that no training had.
    """

    needs = Needs.PIXELS | Needs.BITSTREAM

    def __init__(self, options: CveOptions) -> None:
        super().__init__(options)
        self.options: CveOptions = options

    def provenance(self) -> Mapping[str, str]:
        """Return the checkpoints' hashes, and for which codecs each has a vector of its own."""
        found = {}
        for vlm, path in self.options.paths().items():
            which = f" for {vlm}" if vlm else ""
            found[f"checkpoint{which}"] = file_hash(path)
            known = Vocabulary.read(_header(path)["vocabulary"]).codecs[2:]
            found[f"vectors{which}"] = ", ".join(known) or "none"
        return found

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why the checkpoint does not serve *vlm*, or ``""``; any codec is served."""
        path = self.options.path(vlm.name, vlm.label)
        if path is None:
            return f"no checkpoint for vlm {vlm.label}; `lossylens train adaptor cve` makes one"
        about = _header(path)
        reason = check_header(about, METHOD, vlm, path)
        if reason:
            return reason
        vocabulary = Vocabulary.read(about["vocabulary"])
        for codec, other in self.options.map.items():
            if other not in vocabulary.codecs:
                known = ", ".join(vocabulary.codecs[2:])
                raise ConfigError(
                    f"map: {codec} is to pass as {other}, which {path} was not trained on;"
                    f" it knows {known}"
                )
        return ""

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool:
        """Whether the training had this codec at this level."""
        path = self.options.path(vlm.name, vlm.label)
        return path is not None and has_seen(_header(path), point)

    def remark(self, vlm: VlmIdentity) -> str:
        """Return what the checkpoint for *vlm* says of itself."""
        path = self.options.path(vlm.name, vlm.label)
        return str(_header(path).get("note", "")) if path else ""

    def encoder(self, vision: VisionAccess) -> VisionEncoder:
        """Return the tuned encoder."""
        checkpoint = self._checkpoint(vision)
        student = Student.read(vision, checkpoint)
        labels = Labels(
            student.vocabulary,
            checkpoint.about["level"],
            self.options.map,
            self.options.label,
        )

        def encode(pictures: Sequence[Any], conditions: Sequence[Condition]) -> Sequence[Any]:
            with torch.no_grad():
                found: Sequence[Any] = student(pictures, [labels.numbers(c) for c in conditions])
                return found

        return encode

    def _checkpoint(self, vision: VisionAccess) -> Checkpoint:
        """Return the one checkpoint that was trained for this encoder."""
        own = encoder_hash(vision)
        paths = self.options.paths().values()
        for path in paths:
            checkpoint = read_checkpoint(path)
            if checkpoint.about.get("encoder") == own:
                return checkpoint
        names = ", ".join(map(str, paths))
        raise ConfigError(f"{names}: trained for another vision encoder")


class Student(nn.Module):
    """A copy of the vision encoder with its condition.

    Args:
        vision: the VLM's own encoder, which is copied.
        vocabulary: codecs and levels.
        condition, condition_of: see :mod:`lossylens_adaptor_cve.conditions`.
        checkpointing: see :meth:`~lossylens.vlm.VisionAccess.encode`.
    """

    def __init__(
        self,
        vision: VisionAccess,
        vocabulary: Vocabulary,
        condition: str,
        condition_of: str,
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        # Not a submodule itself; its weights are those of `encoder`.
        self.access = [vision.clone()]
        self.encoder = self.access[0].trainable
        self.conditioner = make_conditioner(condition, condition_of, vocabulary, vision)
        self._checkpointing = checkpointing

    @classmethod
    def read(cls, vision: VisionAccess, checkpoint: Checkpoint) -> Student:
        """Return what a checkpoint holds.

        Raises:
            ConfigError: its weights are of another encoder.
        """
        about = checkpoint.about
        vocabulary = Vocabulary.read(about["vocabulary"])
        student = cls(vision, vocabulary, about["condition"], about["condition_of"])
        parts: dict[str, dict[str, Tensor]] = {"vision": {}, "lora": {}, "condition": {}}
        for name, value in checkpoint.state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        if about.get("lora"):
            merge_lora(
                student.encoder, parts["lora"], about["lora"]["alpha"] / about["lora"]["rank"]
            )
        else:
            student.access[0].load(parts["vision"])
        student.conditioner.load_state_dict(parts["condition"])
        return student.eval()

    def forward(
        self,
        pictures: Sequence[Any],
        numbers: Sequence[tuple[int, float]],
        layers: Sequence[int] = (),
    ) -> Any:
        """Return what enters the language model, per image.

        Args:
            pictures: preprocessed.
            numbers: place of the codec's vector, and level, per image.
            layers: whose hidden states are returned as well, as a second value.
        """
        device = next(self.encoder.parameters()).device
        places = torch.tensor([place for place, _ in numbers], device=device)
        levels = torch.tensor([level for _, level in numbers], device=device)
        arguments = self.conditioner(places, levels)
        encoded = self.encoder(pictures, **arguments, checkpointing=self._checkpointing)
        if not layers:
            return encoded
        return encoded, self.access[0].hidden_states(pictures, list(layers), **arguments)

    def state(self) -> dict[str, Tensor]:
        """Return the weights by the names of a checkpoint."""
        changes = lora_changes(self.encoder)
        if changes:
            trained = {f"lora.{name}": value for name, value in changes.items()}
        else:
            whole = self.access[0].parameters()
            trained = {f"vision.{name}": value for name, value in whole.items()}
        condition = self.conditioner.state_dict()
        return trained | {f"condition.{name}": value for name, value in condition.items()}


@torch.no_grad()
def encoder_hash(vision: VisionAccess) -> str:
    """Return a hash of an encoder's weights, the same in whatever precision they are loaded.

    Of each tensor some thousand values, spread over it, stand for all.
    """
    digest = hashlib.sha256()
    for name, value in sorted(vision.parameters().items()):
        values = value.detach().flatten()
        some = values[:: max(1, len(values) // _HASHED)].to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(some.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:32]


@lru_cache
def _header(path: Path) -> Mapping[str, Any]:
    return read_checkpoint(path).about
