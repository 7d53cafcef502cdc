"""A latch is what an asyncio.Event is, and tells whether it was waited for too long."""

import asyncio

from gateway.serve.latch import Latch


async def test_whoever_waits_goes_on_once_it_has_happened():
    latch = Latch()
    waiting = [asyncio.create_task(latch.wait()) for _ in range(3)] + [asyncio.create_task(latch.wait(3_600))]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    latch.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    assert latch.is_set()
    assert await latch.wait(0)


async def test_a_wait_that_is_too_long_is_over_and_others_go_on():
    latch = Latch()
    patient = asyncio.create_task(latch.wait())
    assert await latch.wait(0) is False
    assert not patient.done()
    latch.set()
    assert await patient


async def test_what_may_happen_again_is_waited_for_again():
    latch = Latch()
    latch.set()
    latch.clear()
    assert not latch.is_set()
    assert await latch.wait(0) is False


async def test_a_waiter_that_gives_up_is_forgotten():
    latch = Latch()
    first, second = asyncio.create_task(latch.wait()), asyncio.create_task(latch.wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    latch.set()
    assert await second
