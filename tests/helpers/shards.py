"""A Ray cluster of few processes, and actors that are kept for the next test.

An actor is a process that imports Ray, Polars and gtmar before it holds a row, which takes a
hundred times as long as what a test asks of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from gtmar.engine import ray_cluster
from gtmar.engine.ray_shards import _OwnShard, _Shard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["KeptActors", "small_cluster"]

#: Processes that Ray starts for people to look at and for machines to come: no shard needs them.
_NEEDLESS = ("start_api_server", "start_monitor", "start_log_monitor")


@contextmanager
def small_cluster() -> Iterator[ModuleType]:
    """Start a cluster of two cores as gtmar does, without its needless processes; end it."""
    # Not before gtmar: what a cluster is like is read when Ray is imported.
    ray = ray_cluster._imported(own=True)
    from ray._private.node import Node

    with pytest.MonkeyPatch.context() as changed:
        for name in _NEEDLESS:
            changed.setattr(Node, name, lambda *_, **__: None, raising=False)
        changed.setattr(ray, "init", partial(ray.init, num_cpus=2, object_store_memory=100 << 20))
        with ray_cluster.connected() as found:
            yield found


class KeptActors:
    """Actors that take up another shard when a test has closed its own.

    Each is begun anew by the constructor of its class, so that nothing is left of the shard before
    but what a process keeps: imported modules and loaded machine code. One that a test has killed
    is left out.
    """

    def __init__(self, ray: ModuleType) -> None:
        self._ray, self._remote, self._kill = ray, ray.remote, ray.kill
        self._idle: list[Any] = []
        self._lent: list[Any] = []

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let whoever asks Ray for a shard's actor have one of these; then take them all back."""
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(self._ray, "remote", self._of_class)
            changed.setattr(self._ray, "kill", self._taken_back)
            try:
                yield
            finally:
                for actor in list(self._lent):
                    self._taken_back(actor)

    def end(self) -> None:
        """End the processes."""
        for actor in self._idle:
            self._kill(actor)

    def _of_class(self, *given: Any, **options: Any) -> Any:
        remote = self._remote(*given, **options)
        return lambda what: _Class(self, what) if what in (_Shard, _OwnShard) else remote(what)

    def begun(self, kind: type[_Shard], *given: Any, **options: Any) -> Any:
        """Return an actor that is of this class from now on."""

        # Sent by value, since workers can't import tests.
        def begin(actor: Any) -> None:
            vars(actor).clear()
            actor.__class__ = kind
            kind.__init__(actor, *given, **options)

        class Vacant(_OwnShard):
            def __init__(self) -> None:
                pass

        while True:
            new = not self._idle
            # It claims no core: those that wait for a test would leave none to tasks.
            actor = self._remote(num_cpus=0)(Vacant).remote() if new else self._idle.pop(0)
            try:
                self._ray.get(actor.__ray_call__.remote(begin))
            except self._ray.exceptions.RayActorError:
                if new:
                    raise
                continue
            self._lent.append(actor)
            return actor

    def _taken_back(self, actor: Any) -> None:
        for at, lent in enumerate(self._lent):
            if lent is actor:
                self._idle.append(self._lent.pop(at))


class _Class:
    """Stands where Ray would have made a class of actors."""

    def __init__(self, actors: KeptActors, kind: type[_Shard]) -> None:
        self.remote = partial(actors.begun, kind)
