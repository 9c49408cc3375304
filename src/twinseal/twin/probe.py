"""Whether the twin on this machine works, for the health check of a container: `python -m twinseal.twin.probe PORT`.

It asks the twin's own metrics on loopback: they must answer, and the twin's loop must have turned in the last minute.
Exit code 0: it works; 1: it does not, with the reason on stderr; 2: misuse. It imports nothing but Python's own.
"""

from __future__ import annotations

import http.client
import re
import sys

ALIVE_S = 60.0
TIMEOUT_S = 5.0
_LIMIT = 1 << 20
_AGE = re.compile(rb"^twinseal_twin_alive_age_seconds ([0-9.eE+-]+|NaN)$", re.MULTILINE)


def fault_of(port: int) -> str:
    """Why the twin whose metrics are at this port does not work; "" if it does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text, status = answer.read(_LIMIT), answer.status
    except (OSError, http.client.HTTPException) as error:
        return f"expected the twin's metrics at 127.0.0.1:{port}, got {type(error).__name__}: {error}"
    finally:
        connection.close()
    found = _AGE.search(text)
    if status != 200 or found is None:
        return f"expected the twin's metrics at 127.0.0.1:{port}, got something else (status {status})"
    age_s = float(found[1])
    if not age_s <= ALIVE_S:  # NaN: it has not begun
        return f"expected a twin that worked in the last {ALIVE_S:g} s, got {age_s:g} s"
    return ""


def main(words: list[str]) -> int:
    """The exit code."""
    if len(words) != 1 or not words[0].isdecimal() or not 1 <= int(words[0]) <= 65535:
        sys.stderr.write("expected the port of the twin's metrics: python -m twinseal.twin.probe PORT\n")
        return 2
    fault = fault_of(int(words[0]))
    sys.stderr.write(f"{fault}\n" if fault else "")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
