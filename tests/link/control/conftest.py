from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture
def world(aws: None) -> World:
    """An empty deployment on virtual time."""
    return World()
