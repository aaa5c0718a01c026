from __future__ import annotations

import pytest
from lossylens_task_scenes.scene import Scene, make_scene


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Enough scenes for rates to be stable."""
    return [make_scene(21, index) for index in range(600)]
