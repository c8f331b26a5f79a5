"""The limiter: what a 429 does, and how the number comes back."""

import pytest

from llm_backend.batches.limiter import Limiter, Limiters
from llm_backend.values import Endpoint


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the limiters in a test."""
    return Clock()


def fill(limiter: Limiter) -> int:
    """Starts as many as may; how many that were."""
    started = 0
    while limiter.start():
        started += 1
    return started


def test_as_many_start_as_are_allowed() -> None:
    """And one more for each that ends, however it ends."""
    limiter = Limiter(4)
    assert fill(limiter) == 4
    assert not limiter.start()
    limiter.succeeded()
    limiter.failed()
    assert fill(limiter) == 2


def test_after_a_429_nothing_starts_for_as_long_as_it_says(clock: Clock) -> None:
    """And then one, not all at once."""
    limiter = Limiter(32, clock)
    fill(limiter)
    for _ in range(32):
        limiter.refused(2)
    assert limiter.seconds_to_wait() == 2
    clock.now += 1.9
    assert not limiter.start()
    clock.now += 0.1
    assert fill(limiter) == 1


def test_the_number_comes_back_by_itself(clock: Clock) -> None:
    """Doubling up to half of what it was, then one by one, and never above the most."""
    limiter = Limiter(32, clock)
    fill(limiter)
    for _ in range(32):
        limiter.refused(1)
    clock.now += 1
    sizes = []
    for _ in range(40):
        started = fill(limiter)
        sizes.append(started)
        for _ in range(started):
            limiter.succeeded()
    assert sizes[:5] == [1, 2, 4, 8, 16]
    assert sizes[5] in (16, 17)
    assert sizes[-1] == 32
    assert sizes == sorted(sizes)


def test_ten_seconds_of_429_cost_a_handful_of_calls(clock: Clock) -> None:
    """Each pause is followed by one probe."""
    limiter, calls = Limiter(64, clock), 0
    while clock.now < 1010:
        started = fill(limiter)
        calls += started
        for _ in range(started):
            limiter.refused(2)
        clock.now += 0.5
    assert calls <= 64 + 5


def test_without_retry_after_the_pauses_grow(clock: Clock) -> None:
    """1, 2, 4 ... seconds, until something succeeds."""
    limiter = Limiter(1, clock)
    pauses = []
    for _ in range(4):
        assert limiter.start()
        limiter.refused(None)
        pauses.append(limiter.seconds_to_wait())
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8]
    assert limiter.start()
    limiter.succeeded()
    assert limiter.start()
    limiter.refused(None)
    assert limiter.seconds_to_wait() == 1


def test_an_endpoint_has_one_limiter_and_the_oldest_makes_room() -> None:
    """Whoever asks it shares the limit, however many other endpoints there have been."""
    limiters = Limiters(4)
    used = Endpoint("openai", "https://used.example")
    limiter, other = limiters.of(used), limiters.of(Endpoint("openai", "https://other.example"))
    for number in range(200):
        limiters.of(Endpoint("openai", f"https://{number}.example"))
        assert limiters.of(used) is limiter
    assert limiters.of(Endpoint("openai", "https://other.example")) is not other
