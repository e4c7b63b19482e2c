"""The address of a running Ray cluster: its form, and whether anything answers there."""

from __future__ import annotations

import re
import socket

from spaces.suggest import did_you_mean

from .errors import RequestError

AUTO = "auto"
"""The cluster that runs on this machine."""

CONNECT_TIMEOUT_S = 10.0
"""How long an address may take to answer."""

_CLIENT = "ray://"
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")


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
    """Tries the port for some seconds, where Ray itself would try for minutes.

    Args:
        address: Of a form that `check_form` lets pass; nothing is tried for `auto` or none.

    Raises:
        RequestError: Nothing answers.
    """
    place = _PLACE.fullmatch(address.removeprefix(_CLIENT))
    if place is None:
        return
    host = place["host"].strip("[]")
    if host in ("127.0.0.1", "localhost") and not address.startswith(_CLIENT):
        import ray

        host = ray.util.get_node_ip_address()  # Ray puts the machine's own address in its place
    port = int(place["port"])
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"`address`: no Ray cluster answers at {address!r} ({host} port {port}: {reason})"
        ) from None
