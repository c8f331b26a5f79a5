"""An OpenAI-compatible server as a process: `python -m benchmarks.stub SECONDS` prints its address."""

import dataclasses
import sys
import threading

from tests.stub_llm import completion, running_stub

if __name__ == "__main__":
    latency = float(sys.argv[1])
    answer = dataclasses.replace(completion("Sarcastic"), delay=latency)
    with running_stub() as stub:
        stub.answer = lambda call: answer
        print(stub.url, flush=True)
        threading.Event().wait()
