"""Settings of all tests in the workspace."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("workspace", deadline=None)
settings.load_profile("workspace")
