"""What makes up an encoder, a decoder and their files, and what of it is missing; light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossylens.errors import ConfigError
from lossylens.spec import Missing

from lossylens_toolkit.external_codec.program_options import ProgramOptions, ReferenceOptions
from lossylens_toolkit.external_codec.programs import (
    Program,
    find_beside,
    find_program,
    missing_program,
)


@dataclass(frozen=True, slots=True)
class Software:
    """Programs that the user has to provide.

    Attributes:
        encoder, decoder: the programs.
        configs: by subsampling, the file in the release's folder ``cfg`` that
            configures the encoder; empty where it needs none.
        deep_configs: likewise, for more than 8 bits inside the codec; the others have it
            in ``configs``.
    """

    encoder: Program
    decoder: Program
    configs: Mapping[str, str] = field(default_factory=dict)
    deep_configs: Mapping[str, str] = field(default_factory=dict)

    def missing(self, options: ProgramOptions) -> Sequence[Missing]:
        """Return what is not there; the requirement check of a plugin."""
        return [
            *missing_program(self.encoder, options.encoder),
            *missing_program(self.decoder, options.decoder),
            *self._missing_config(options),
        ]

    def find_config(self, options: ReferenceOptions) -> Path | None:
        """Return the encoder's configuration file, or None.

        Raises:
            ConfigError: the option names one that is not there.
        """
        if options.config is not None:
            if not options.config.is_file():
                raise ConfigError(f"there is no file {options.config} (option config)")
            return options.config
        program = find_program(self.encoder, options.encoder)
        return find_beside(program, "cfg", self._config_name(options)) if program else None

    def _config_name(self, options: ReferenceOptions) -> str:
        deep = options.internal_depth is not None and options.internal_depth > 8
        configs = {**self.configs, **self.deep_configs} if deep else self.configs
        return configs[options.subsampling]

    def _missing_config(self, options: ProgramOptions) -> Sequence[Missing]:
        if not isinstance(options, ReferenceOptions) or self.find_config(options):
            return ()
        if not find_program(self.encoder, options.encoder):
            return ()  # said already
        name = self._config_name(options)
        what = f"{name} (in no folder cfg beside or above the {self.encoder.what})"
        return (Missing(what, "set option config to that file of the same release"),)
