"""Whether a service on this machine says that it is ready."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 2.0
_SHOWN_BYTES = 2_000


def not_ready(port: int) -> str | None:
    """Why the service whose /readyz is at this port of 127.0.0.1 is not ready; None if it is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(_SHOWN_BYTES).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        return f"no answer yet ({type(error).__name__})"
    finally:
        connection.close()
    return None if answer.status == HTTPStatus.OK else "; ".join(text.splitlines()) or f"status {answer.status}"
