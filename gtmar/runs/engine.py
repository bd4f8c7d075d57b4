"""Where a run computes, and with how much memory. It changes no result, so no record keeps it."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.evaluator import Evaluator
    from gtmar.spec.model import ScoringSpec

__all__ = ["ENGINES", "Engine"]

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Engine:
    """Where a run computes. Any of it gives the same journal, to the digest.

    Parameters
    ----------
    kind
        `local`, this process; or `ray`, shards of the table in processes of a Ray cluster.
    memory
        Bytes that the table may take here; what needs more is mapped from a temporary file. None
        for half of the machine's.
    address
        Of a running cluster; None starts one on this machine.
    shards
        Parts of the table, a process each; None for one a core of the cluster.
    """

    kind: str = "local"
    memory: int | None = None
    address: str | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't hold, all in one message."""
        wrong = []
        hint = None
        if self.kind not in ENGINES:
            wrong.append(f'no engine "{self.kind}"; there are {", ".join(ENGINES)}')
            hint = f"--engine {nearest(self.kind, ENGINES) or 'local'}"
        elif self.kind == "local" and (self.address is not None or self.shards is not None):
            wrong.append("an address and a number of shards are for the engine ray")
            hint = "--engine ray"
        if self.shards is not None and self.shards < 1:
            wrong.append(f"shards must be 1 or more, got {self.shards}")
        if self.memory is not None and self.memory < 0:
            wrong.append(f"memory must be 0 bytes or more, got {self.memory}")
        if wrong:
            raise UsageError("; ".join(wrong), hint=hint)

    @contextmanager
    def evaluator(self, matrix: AccountMatrix, spec: ScoringSpec) -> Iterator[Evaluator | None]:
        """Give who computes sums over a matrix; None stands for this process.

        Raises
        ------
        UsageError
            If Ray isn't installed.
        ResourceError
            If there is no cluster.
        """
        if self.kind == "local":
            yield None
            return
        from gtmar.engine.ray_shards import ClusterEvaluator, connected

        with connected(self.address) as ray:
            evaluator = ClusterEvaluator(ray, matrix, spec, shards=self.shards)
            with closing(evaluator):
                yield evaluator
