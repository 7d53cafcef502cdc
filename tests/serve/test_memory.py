"""Memory is given back seldom, whoever asks how often, and nothing happens where the C library cannot."""

from gateway.serve import memory
from gateway.serve.memory import MemoryReturn, find_trim
from gateway.testing.waiting import wait_until_async


async def test_many_sessions_are_served_by_one_call(monkeypatch):
    monkeypatch.setattr(memory, "DELAY_S", 0.01)
    monkeypatch.setattr(memory, "PAUSE_S", 0.5)
    called = []

    def trim(kept):
        called.append(kept)
        return 1

    given = MemoryReturn(trim)
    for _ in range(100):
        given.ask()

    async def is_called():
        return called

    await wait_until_async(is_called)
    for _ in range(100):
        given.ask()
    assert len(called) == 1  # the second is due after the pause

    async def is_called_again():
        return len(called) == 2

    await wait_until_async(is_called_again)


async def test_nothing_is_asked_of_a_library_without_the_call():
    MemoryReturn(None).ask()


def test_the_c_library_is_asked_with_numbers_it_takes():
    trim = find_trim()
    assert trim is None or trim(0) in {0, 1}
