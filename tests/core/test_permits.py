"""Permits for requests under way: none is lost, whatever comes at the same moment."""

import asyncio

import pytest

from lunar_core.client.permits import AsyncPermits


async def test_a_permit_that_comes_together_with_a_cancellation_goes_to_the_next():
    permits = AsyncPermits(1)
    await permits.acquire(None)
    waiting = asyncio.create_task(permits.acquire(None))
    await asyncio.sleep(0)
    permits.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await permits.acquire(0.1)
