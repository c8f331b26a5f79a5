"""The demo's steps in containers: `docker compose --profile demo up`.

`python -m demo.compose user FOLDER` invents the user, before Label Studio starts.
`python -m demo.compose projects FOLDER LABEL_STUDIO BACKEND SHOWN_AT` makes the projects, once both servers
are healthy. FOLDER is a volume that all of the demo's containers see.
"""

import sys
from pathlib import Path

import requests

from demo.backend import basic_auth_of, described
from demo.errors import DemoError
from demo.label_studio import LabelStudioApi
from demo.projects import ExampleProjects
from demo.run import how_to_get_in
from demo.state import State
from llm_backend.errors import BackendError
from llm_backend.parameters import ExtraParams, require_settings, resolve_parameters
from llm_backend.settings import load_settings


def main(step: str, folder: Path, *addresses: str) -> None:
    """Does one of the two steps.

    Raises:
        SystemExit: the step failed; the message says why.
    """
    state = State(folder, shared=True)
    try:
        if step == "user":
            folder.chmod(0o711)  # containers of other users read a file in it
            state.credentials()
        else:
            _set_up(state, *addresses)
    except (DemoError, BackendError, OSError, requests.RequestException) as error:
        sys.exit(f"The demo cannot go on. {error}")


def _set_up(state: State, label_studio_url: str, backend_url: str, shown_at: str) -> None:
    settings = load_settings()
    parameters = resolve_parameters(settings, ExtraParams())
    require_settings(parameters)
    label_studio = LabelStudioApi(state.credentials(), label_studio_url)
    projects = ExampleProjects(label_studio, state, backend_url, basic_auth_of(settings))
    projects.set_up(_say, ask_ahead=parameters.endpoint.provider == "embedded")
    label_studio.close()
    _say(how_to_get_in(shown_at, label_studio.credentials, described(parameters), backend_url))


def _say(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
