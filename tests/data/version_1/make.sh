#!/bin/sh
# Makes the SQL files of this folder anew: a database as the last commit with version 1 of the tables wrote it.
#   tests/data/version_1/make.sh PYTHON     (PYTHON has that commit's requirements.txt and requirements-dev.txt)
# In it: project 7 with extra params (one of them a key), two Shift+Enter prompts and a finished batch of 4 tasks;
# project 8 with other controls and a batch of 6 tasks, of which the LLM answered 3 before the server ended.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
old=$(mktemp -d)
git -C "$here" worktree add --detach "$old" 7ba9a20
trap 'git -C "$here" worktree remove --force "$old"' EXIT
cd "$old"
python=$(command -v "$1") && PYTHONPATH=. "$python" - "$here" <<'EOF'
import http.server, json, pathlib, socket, sqlite3, sys, tempfile, threading

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from llm_backend.api import create_app
from llm_backend.services import make_services
from llm_backend.settings import load_settings
from llm_backend.storage.schema import METADATA
from model import InteractiveLLM
from tests.conftest import CLASSIFICATION, Backend

REVIEWS = (
    '<View><Text name="review" value="$review"/><Rating name="stars" toName="review" maxRating="5"/>'
    '<TextArea name="prompt" toName="review"/><TextArea name="why" toName="review"/></View>'
)
socket.gethostname = lambda: "machine"  # it is in the name of each lease's owner


class LLM(http.server.BaseHTTPRequestHandler):
    """Answers at once, or asks to come again in an hour where a task says `later`."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        later = "later" in json.dumps(body["messages"])
        as_json = "response_format" in body
        said = json.dumps({"response": "", "sentiment": ["Sarcastic"]}) if as_json else "It's good \u2013 \u60c5\u611f; 4"
        choices = [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        payload = json.dumps({"error": {"message": "slow down"}} if later else answer).encode()
        self.send_response(429 if later else 200)
        for name, value in {"Content-Type": "application/json", "Retry-After": "3600", "Content-Length": len(payload)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


llm = http.server.ThreadingHTTPServer(("127.0.0.1", 18080), LLM)  # the address is part of a completion's key
threading.Thread(target=llm.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    variables = {
        "OPENAI_API_KEY": "sk-of-the-environment", "OPENAI_BASE_URL": "http://127.0.0.1:18080/v1",
        "MODEL_DIR": folder, "PREDICT_TIMEOUT": "4",
    }
    services = make_services(load_settings(variables, env_file=None))
    backend = Backend(create_app(InteractiveLLM, services).test_client(), services)
    extra = {"api_key": "sk-of-the-project", "temperature": 0.2, "default_prompt": "Is it sarcastic?"}
    assert backend.setup(extra_params=json.dumps(extra)).status_code == 200
    for prompt in ("Sarcastic or not?", "Is this\n'sarcastic'? \u60c5\u611f"):
        assert backend.predict(prompt=prompt).status_code == 200
    assert len(backend.predict([{"id": n, "data": {"text": f"text {n}"}} for n in range(1, 5)]).json["results"]) == 4
    [job] = services.work.recent_jobs()
    while services.work.job(job.id).state != "done":  # the delivery's thread may be first
        services.work.end_finished(job.id)
    eight = {"config": REVIEWS, "project": "8.1795440474"}
    assert backend.setup(REVIEWS, "8.1795440474", json.dumps({"default_prompt": "Rate it."})).status_code == 200
    backend.predict([{"id": n, "data": {"review": f"review {n}"}} for n in (1, 2, 3)], **eight)
    tasks = [{"id": n, "data": {"review": f"review {n}{' later' if n > 3 else ''}"}} for n in range(1, 7)]
    print(backend.predict(tasks, **eight).json["results"])
    assert services.close()
    with sqlite3.connect(f"{folder}/state.sqlite3") as connection:
        lines = list(connection.iterdump())
here = pathlib.Path(sys.argv[1])
rows = [line for line in lines if line.startswith("INSERT")]
(here / "rows.sql").write_text("\n".join(rows) + "\n")
for dialect in (sqlite, postgresql):
    made = []
    for table in METADATA.sorted_tables:
        made.append(sa.schema.CreateTable(table))
        made += [sa.schema.CreateIndex(index) for index in sorted(table.indexes, key=lambda index: index.name)]
    text = ";\n".join(str(one.compile(dialect=dialect.dialect())).strip() for one in made)
    (here / f"tables-{dialect.__name__.rpartition('.')[2]}.sql").write_text(text.replace("\t", "    ") + ";\n")
EOF
