"""What is known for a while."""

import time

from llm_backend.label_studio.expiring import Expiring


def test_a_value_is_kept_for_its_time() -> None:
    """Afterwards it is not known any more; false is a value like any other."""
    known: Expiring[str, bool] = Expiring(10)
    known.put("long", False, 60)
    known.put("short", True, 0.05)
    known.put("none", True, 0)
    assert (known.get("long"), known.get("short"), known.get("none")) == (False, True, None)
    time.sleep(0.06)
    assert (known.get("long"), known.get("short"), known.get("other")) == (False, None, None)


def test_only_the_newest_are_kept() -> None:
    """However many there are; what is put anew counts as new."""
    known: Expiring[int, int] = Expiring(3)
    for number in range(3):
        known.put(number, number, 60)
    known.put(0, 7, 60)
    known.put(3, 3, 60)
    assert [known.get(number) for number in range(4)] == [7, None, 2, 3]
