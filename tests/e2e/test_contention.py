"""Contention on the local cloud, whose store is atomic. `make dynamodb-local` repeats it on AWS's own engine."""

from __future__ import annotations

from tests.e2e.contention import contend
from tests.e2e.site import Site


def test_one_holder_one_epoch_step_and_every_report_applied(site: Site) -> None:
    contend(site)
