from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture
def world(aws: None) -> World:
    """A deployment on virtual time, empty."""
    return World()
