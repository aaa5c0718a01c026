"""What the plugins of reference software declare, which differ in little; light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossylens.codec import CodecSpec

from lossylens_toolkit.external_codec.program_options import ReferenceOptions, qp_levels, qp_parser
from lossylens_toolkit.external_codec.programs import Program
from lossylens_toolkit.external_codec.software import Software


def reference_software(
    name: str,
    *,
    encoder: str,
    decoder: str,
    banner: str,
    source: str,
    configs: Mapping[str, str],
    deep_configs: Mapping[str, str] | None = None,
) -> Software:
    """Return what makes up reference software.

    Args:
        name: such as ``"HM"``; the environment variables ``LOSSYLENS_HM_ENCODER`` and
            ``LOSSYLENS_HM_DECODER`` say where its programs are.
        encoder, decoder: names of the programs, which may also end in ``Static``.
        banner: regular expression that the line with a program's version matches, with
            ``{role}`` where it says ``Encoder`` or ``Decoder``.
        source: where to get it.
        configs, deep_configs: see
            :class:`~lossylens_toolkit.external_codec.software.Software`.
    """

    def program(role: str, file: str) -> Program:
        return Program(
            what=f"{name} {role}",
            option=role,
            variable=f"LOSSYLENS_{name}_{role.upper()}",
            names=(file, f"{file}Static"),
            source=source,
            banner=banner.format(role=role.capitalize()),
        )

    programs = (program("encoder", encoder), program("decoder", decoder))
    return Software(*programs, configs, deep_configs or {})


def reference_spec(
    name: str,
    *,
    factory: str,
    summary: str,
    citation: str,
    licence: str,
    software: Software,
    largest_qp: int,
    published: Mapping[str, Sequence[int]],
) -> CodecSpec:
    """Return the declaration of a codec around reference software.

    Args:
        name, factory, summary, citation, licence: see
            :class:`~lossylens.spec.PluginSpec`.
        software: its programs and files.
        largest_qp: quantisation parameters go from 0 to this.
        published: quantisation parameters of published results by task; each becomes a
            set of levels, and their union the default.
    """
    return CodecSpec(
        name=name,
        summary=summary,
        factory=factory,
        category="traditional",
        citation=citation,
        licence=licence,
        options=ReferenceOptions,
        requirements=software.missing,
        levels=qp_levels(*(qp for qps in published.values() for qp in qps)),
        level_sets={task: tuple(f"qp{qp}" for qp in qps) for task, qps in published.items()},
        parse_level=qp_parser(largest_qp),
        level_help=f"qp0 to qp{largest_qp}",
    )
