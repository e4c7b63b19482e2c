"""The address of a running Ray cluster: its form, and whether a cluster there lets us in.

Ray itself tries for minutes, ends the process where a token is missing, and says what is wrong in a
page of warnings. So a process of its own knocks first, before anything is made on disk.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

from spaces.suggest import did_you_mean

from .errors import RequestError

AUTO = "auto"
"""The cluster that runs on this machine."""

CONNECT_TIMEOUT_S = 10.0
"""How long an address may take to answer."""

KNOCK_TIMEOUT_S = 60.0
"""How long Ray may take to let us in; three seconds are usual."""

TRIES = 3
"""How often a head is asked that answers and then fails: in a few of a hundred times the process that it
starts for a client dies in a fork (https://github.com/ray-project/ray/issues/63202)."""

FAILED_THERE = ConnectionAbortedError.__name__
"""What Ray raises then."""

_CLIENT = "ray://"
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")


_KNOCK = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""
_NO_TOKEN = re.compile("no authentication token was found|couldn't find an authentication token")
_REFUSED = re.compile("InvalidAuthToken|AuthenticationError")
_ERROR = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit)\w*): (.*)")


def check_form(address: str) -> None:
    """Refuses what no cluster can be reached by; empty is none, and allowed.

    Raises:
        ValueError: It has another form than `auto`, HOST:PORT or ray://HOST:PORT.
    """
    if address in ("", AUTO):
        return
    place = _PLACE.fullmatch(address.removeprefix(_CLIENT))
    if place is None or not 1 <= int(place["port"]) <= 65535:
        raise ValueError(
            f"`address` must be {AUTO}, HOST:PORT or {_CLIENT}HOST:PORT, "
            f"got {address!r}{did_you_mean(address, [AUTO])}"
        )


def check_that_it_answers(address: str) -> None:
    """Refuses an address where no Ray cluster is, or one that does not let us in.

    Args:
        address: Of a form that `check_form` lets pass; nothing is tried where it is empty.

    Raises:
        RequestError: Nothing answers, something else than Ray does, or Ray wants another token.
    """
    if not address:
        return
    place = _PLACE.fullmatch(address.removeprefix(_CLIENT))
    if place is not None:
        _check_port(address, place["host"].strip("[]"), int(place["port"]))
    _knock(address)


def refusal(address: str, said: str) -> RequestError:
    """What is wrong, in one line.

    Args:
        address: The cluster that did not let us in.
        said: What Ray wrote on standard error, or its exception as text.
    """
    if _NO_TOKEN.search(said):
        return RequestError(
            f"`address`: RAY_AUTH_MODE is token and no token is here for the Ray cluster at "
            f"{address!r}: {_HAND_OVER}"
        )
    if _REFUSED.search(said):
        mode = os.environ.get("RAY_AUTH_MODE")
        wrong = (
            "and the one that is here is not its own"
            if mode == "token"
            else f"and RAY_AUTH_MODE is {'not set' if mode is None else mode} here: set it to token"
        )
        return RequestError(
            f"`address`: the Ray cluster at {address!r} wants a token {wrong}; {_HAND_OVER}"
        )
    found = _ERROR.findall(said)
    reason = found[-1][1] if found else (said.strip().splitlines() or ["it did not say why"])[-1]
    return RequestError(f"`address`: no Ray cluster answers at {address!r} ({reason.strip()})")


_HAND_OVER = (
    "put the text of the head node's ~/.ray/auth_token into RAY_AUTH_TOKEN, or the path of a copy "
    "into RAY_AUTH_TOKEN_PATH"
)


def _check_port(address: str, host: str, port: int) -> None:
    """Tries the port for some seconds, where Ray itself would try for minutes."""
    if host in ("127.0.0.1", "localhost") and not address.startswith(_CLIENT):
        import ray

        host = ray.util.get_node_ip_address()  # Ray puts the machine's own address in its place
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"`address`: no Ray cluster answers at {address!r} ({host} port {port}: {reason})"
        ) from None


def _knock(address: str) -> None:
    """Joins the cluster and leaves it, in a process that neither harms nor outlives us."""
    for left in reversed(range(TRIES)):
        code, said = _knock_once(address)
        if code == 0:
            return
        if not left or FAILED_THERE not in said:
            raise refusal(address, said)


def _knock_once(address: str) -> tuple[int, str]:
    """The exit code of such a process, and what it wrote on standard error."""
    quick = {"RAY_NUM_REDIS_GET_RETRIES": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _KNOCK, address],
            cwd="/",  # Ray puts the working directory on the path of its workers
            env={**quick, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=KNOCK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"`address`: what answers at {address!r} is no Ray cluster, or one that did not let us "
            f"in within {KNOCK_TIMEOUT_S:.0f} s"
        ) from None
    return done.returncode, done.stderr
