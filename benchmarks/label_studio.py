"""One click on Retrieve Predictions for 10,000 tasks in a real Label Studio.

Run it with `python -m benchmarks.label_studio`. It needs what `make e2e` installs. `make bench` leaves it
out, because Label Studio takes minutes for it.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from testkit.real_label_studio import LabelStudio
from testkit.servers import ROOT, backend, stub_llm

_TASKS = 10_000


def run() -> None:
    """Prints how many predictions are stored, and after how long."""
    config = (ROOT / "examples/text-classification/label_config.xml").read_text()
    tasks = [
        {"data": {"text": f"I love it when my computer crashes, for the time {n}"}} for n in range(_TASKS)
    ]
    virtual_environment = ROOT / os.environ.get("LABEL_STUDIO_VENV", ".venv-label-studio")
    with TemporaryDirectory() as folder, stub_llm(0.1) as stub:
        label_studio = LabelStudio(virtual_environment, Path(folder))
        label_studio.start()
        try:
            project = label_studio.create_project_of("10,000", config, tasks)
            settings: dict[str, Any] = {
                "DEFAULT_PROMPT": "Is it sarcastic?",
                "LABEL_STUDIO_URL": label_studio.url,
                "LABEL_STUDIO_API_KEY": label_studio.token,
            }
            with backend(stub, **settings) as server:
                label_studio.connect(project, server.url).raise_for_status()
                started = time.monotonic()
                label_studio.retrieve_predictions(project)
                clicked = time.monotonic() - started
                while any(job["state"] == "active" for job in server.get("/jobs")["jobs"]):
                    time.sleep(1)
                seconds = time.monotonic() - started
                [job] = server.get("/jobs")["jobs"]
                stored = label_studio.prediction_count(project)
        finally:
            label_studio.stop()
    print(
        f"{_TASKS} tasks, 0.1 s each, one click: {stored} predictions stored, the click answered after "
        f"{clicked:.0f} s, all of it after {seconds:.0f} s ({job['done']} done, {job['failed']} failed)"
    )


if __name__ == "__main__":
    run()
