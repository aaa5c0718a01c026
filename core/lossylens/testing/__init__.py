"""Conformance suites for plugin authors.

A plugin is checked from the command line,

    pytest --pyargs lossylens.testing --codec NAME
    pytest --pyargs lossylens.testing --vlm NAME
    pytest --pyargs lossylens.testing --task NAME --task-option data=FILE
    pytest --pyargs lossylens.testing --adaptor NAME

or among its own tests, by a class derived from
:class:`lossylens.testing.conformance.CodecConformance` or from that of its kind in
:mod:`~lossylens.testing.vlm_conformance`, :mod:`~lossylens.testing.task_conformance` or
:mod:`~lossylens.testing.adaptor_conformance`.  Needs ``lossylens[testing]``.
"""
