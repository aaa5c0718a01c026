"""Conformance suite for plugin authors.

A codec is checked from the command line,

    pytest --pyargs lossylens.testing --codec NAME

or among its own tests, by a class derived from
:class:`lossylens.testing.conformance.CodecConformance`.  Needs ``lossylens[testing]``.
"""
