"""The connection to a Ray cluster: one that runs already, or one started on this machine.

Only this module imports Ray, and only when it is needed.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from gtmar.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["connected"]

#: Seconds within which a cluster's port must answer; Ray itself would try for minutes.
_PATIENCE = 10

#: Settings of a cluster that we start, unless the environment has others: no usage statistics are
#: sent, and it listens on loopback alone. That is what the second variable does, despite its name.
_OWN_CLUSTER = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def connected(address: str | None = None) -> Iterator[ModuleType]:
    """Yield the module `ray`, connected to a cluster; disconnect at the end of the context.

    Parameters
    ----------
    address
        Of a running cluster, as ``ray start`` prints it; ``auto`` for one on this machine; None
        starts one that ends with the context. If this process is connected already, that
        connection is used and kept.

    Raises
    ------
    UsageError
        If Ray isn't installed.
    ResourceError
        If there is no cluster at the address, or none can be started.
    """
    own = address is None
    if own:
        for name, value in _OWN_CLUSTER.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as err:
        raise UsageError(
            "the engine ray needs a package that isn't installed", hint="pip install 'gtmar[ray]'"
        ) from err
    if ray.is_initialized():
        yield ray
        return
    _refuse_silence(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own:
        settings |= {"include_dashboard": False}
    # Ray prints messages about its workers; our stdout is for results.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address=address or "local", **settings)
        except (ConnectionError, RuntimeError, ValueError, OSError) as err:
            where = f"no Ray cluster at {address}" if address else "Ray can't be started here"
            reason = (str(err).strip() or type(err).__name__).splitlines()[0]
            raise ResourceError(
                f"{where}: {reason}", hint="without --address a cluster of its own is started"
            ) from err
        try:
            yield ray
        finally:
            ray.shutdown()


def _refuse_silence(address: str | None) -> None:
    """Refuse an address of a host and a port where nothing listens."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", address or "")
    if place is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as err:
        raise ResourceError(
            f"no Ray cluster at {address}: {err}",
            hint="the address as `ray start --head` printed it; without --address a cluster of "
            "its own is started",
        ) from err
