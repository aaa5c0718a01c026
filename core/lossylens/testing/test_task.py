"""Checks the tasks that ``--task`` names."""

from lossylens.testing.task_conformance import TaskConformance


class TestTask(TaskConformance):
    """The conformance suite."""
