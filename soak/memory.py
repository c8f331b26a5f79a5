"""A scenario: a hundred thousand predictions."""

import time

from soak.stage import Stage, batch
from testkit.servers import stub_llm

_PREDICTIONS = 100_000
_AT_ONCE = 5_000
_SAMPLE_EVERY = 10_000
_SETTLED = 50_000  # until then, caches of threads and connections fill
_MEGABYTES = 10.0


def memory(stage: Stage) -> None:
    """100,000 predictions in batches of 5,000, from an LLM that answers at once."""
    samples: list[float] = []
    predicted = 0
    with stub_llm() as llm, stage.server(url=llm, LOG_LEVEL="WARNING") as server:
        started = time.monotonic()
        for first in range(1, _PREDICTIONS, _AT_ONCE):
            predicted += batch(server, first, _AT_ONCE).predicted
            if (first - 1 + _AT_ONCE) % _SAMPLE_EVERY == 0:
                samples.append(server.worker_megabytes())
                print(f"  {predicted} predictions, {samples[-1]:.0f} MB", flush=True)
        seconds = time.monotonic() - started
        stage.is_well(server)
    stage.expect(predicted == _PREDICTIONS, f"{predicted} predictions")
    early, settled, last = samples[0], samples[_SETTLED // _SAMPLE_EVERY - 1], samples[-1]
    stage.expect(last - settled < _MEGABYTES, f"memory grew by {last - settled:.0f} MB in the last 50,000")
    stage.saw(
        f"{predicted} predictions in {seconds:.0f} s; memory {early:.0f} MB after 10,000, {settled:.0f} MB "
        f"after 50,000, {last:.0f} MB after 100,000"
    )
    stage.lost = "nothing"
