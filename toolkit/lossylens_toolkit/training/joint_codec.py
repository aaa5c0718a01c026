"""A codec that is trained together with an adaptor: what of it is trained, and its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lossylens.errors import ConfigError
from torch import Tensor

from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint, write_checkpoint
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec

#: Learning rate of the quantiles of entropy bottlenecks, as codecs are trained.
_AUXILIARY_RATE = 1e-3

#: Of the quantiles' loss: Adam does not care, and the norm at which gradients are clipped does.
AUXILIARY_WEIGHT = 1e-4


def network_to_train(codec: NeuralCodec, frozen: Sequence[str] = ()) -> HyperpriorNetwork:
    """Return a codec's network in float32, ready to be trained.

    It is put into the mode of training, in which the rate has a gradient: quantisation is noise
    there, and a step without one elsewhere.

    Args:
        codec: with a checkpoint to begin with.
        frozen: beginnings of the names of parameters that stay as they are.

    Raises:
        ConfigError: its forward pass has other latents than its bitstreams.
    """
    if type(codec.network).walk_forward is not HyperpriorNetwork.walk_forward:
        raise ConfigError(
            f"{codec.name}: what this network's forward pass gives are not the latents that it"
            " codes, so that nothing can be trained together with it"
        )
    # See HyperpriorNetwork.forward.
    network = codec.network.float().to(memory_format=torch.contiguous_format)
    network.requires_grad_(True)
    for name, parameter in network.named_parameters():
        if name.startswith(tuple(frozen)):
            parameter.requires_grad_(False)
    network.train()
    return network


def parameter_groups(
    network: HyperpriorNetwork, *, share: float, learning_rate: float
) -> list[Mapping[str, Any]]:
    """Return what is trained, as :meth:`~.adaptor_training.AdaptorTraining.prepare` takes it.

    Args:
        network: of the codec.
        share: of the training's learning rate.
        learning_rate: of the training; quantiles have a rate of their own.
    """
    named = [(name, each) for name, each in network.named_parameters() if each.requires_grad]
    quantiles = [each for name, each in named if name.endswith("quantiles")]
    rest = [each for name, each in named if not name.endswith("quantiles")]
    groups: list[Mapping[str, Any]] = [{"params": rest, "share": share}]
    if quantiles:
        groups.append({"params": quantiles, "share": _AUXILIARY_RATE / learning_rate})
    return groups


def write_codec(
    path: Path,
    codec: NeuralCodec,
    network: HyperpriorNetwork,
    dtype: torch.dtype,
    about: Mapping[str, Any],
) -> None:
    """Write the checkpoint of the codec that was trained, whole or not at all.

    Args:
        path: of the file; its folder is made.
        codec: from whose checkpoint the training began.
        network: as it has become.
        dtype: of the weights in the file.
        about: what its header says beside codec and configuration.
    """
    state: Mapping[str, Tensor] = codec.official_state(network)
    config = codec.network_config(read_checkpoint(codec.checkpoint))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    write_checkpoint(
        temporary,
        {name: value.to(dtype) for name, value in state.items()},
        {"codec": codec.name, "config": dict(config), **about},
    )
    temporary.replace(path)
