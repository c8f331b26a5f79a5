"""The routes for whoever runs the server: the page of batches, what it reads, and metrics."""

from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, request

from llm_backend.errors import UnknownJobError
from llm_backend.server.answers import json_answer
from llm_backend.server.basic_auth import is_trusted
from llm_backend.server.health import health_of
from llm_backend.services import Services
from llm_backend.storage import Job, JobState, Progress
from llm_backend.values import Json

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE_POLICY = f"{NOTHING}; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_JOBS_PAGE = (Path(__file__).parent / "pages" / "jobs.html").read_text(encoding="utf-8")


def add_operator_routes(app: Flask, services: Services) -> None:
    """Adds `/`, `/jobs` and `/metrics`."""

    @app.get("/")
    def index() -> Response:
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
            return json_answer(health_of(services, with_reason=is_trusted(services.settings)))
        page = Response(_JOBS_PAGE, mimetype="text/html")
        page.headers["Content-Security-Policy"] = _PAGE_POLICY
        return page

    @app.get("/jobs")
    def jobs() -> Response:
        return json_answer({"jobs": [_summary(job, progress) for job, progress in services.batches.recent()]})

    @app.delete("/jobs/<job_id>")
    def end_job(job_id: str) -> Response:
        ended = services.batches.stop(job_id)
        if ended is None:
            raise UnknownJobError(f"There is no batch {job_id}: GET /jobs lists them")
        return json_answer({"ended": ended})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics.text(), mimetype="text/plain; version=0.0.4")


def _summary(job: Job, progress: Progress) -> Json:
    """What `GET /jobs` says of a batch; `eta_seconds` is null when nobody can tell."""
    is_known = progress.per_second and job.state is JobState.ACTIVE
    eta = progress.left / progress.per_second if is_known else None
    return {
        "id": job.id,
        "project": job.project,
        "model_version": job.model_version,
        "state": job.state,
        "reason": job.reason,
        "created_at": datetime.fromtimestamp(job.created_at, UTC).isoformat(),
        "done": progress.done,
        "failed": progress.failed,
        "left": progress.left,
        "undelivered": progress.undelivered,
        "tokens": progress.tokens,
        "per_second": round(progress.per_second, 2),
        "eta_seconds": None if eta is None else round(eta, 1),
    }
