"""A hundred thousand predictions."""

import time

from soak.stage import Stage, batch
from tests.servers import stub_llm

_PREDICTIONS = 100_000
_AT_ONCE = 5_000
_SAMPLE_EVERY = 10_000
_MEGABYTES = 8.0


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
    growth = samples[-1] - samples[1]
    stage.expect(growth < _MEGABYTES, f"memory grew by {growth:.0f} MB from 20,000 to 100,000 predictions")
    stage.saw(
        f"{predicted} predictions in {seconds:.0f} s; memory {samples[1]:.0f} MB after 20,000, "
        f"{samples[-1]:.0f} MB after 100,000"
    )
    stage.lost = "nothing"
