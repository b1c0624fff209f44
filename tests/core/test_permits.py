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


async def test_permits_go_to_those_who_wait_in_the_order_in_which_they_came():
    permits, order = AsyncPermits(1), []
    await permits.acquire(None)

    async def wait(number):
        await permits.acquire(None)
        order.append(number)
        permits.release()

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    permits.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]
