"""The processes that train together: who this one is, and how they add up what each of them computed.

A process is one of several where the environment says so, as torchrun and SLURM write it. Otherwise it is alone, and
everything here gives back what it is given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from finetune_exe.errors import FineTuneError
from finetune_exe.models.rank_watch import RankWatch

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
TIMEOUT_VARIABLE = "FINETUNE_EXE_RANK_TIMEOUT"
"""Environment variable: seconds that processes wait for one that does not come."""
TIMEOUT_SECONDS = 600.0
HOSTED_VARIABLE = "TORCHELASTIC_USE_AGENT_STORE"
"""Environment variable of torchrun: "True" where whoever started the processes listens at their meeting point."""
_BUCKET_NUMBERS = 16 << 20
"""Gradients sent at once; 64 MiB in float32."""
_PREPARED, _GO_ON = "prepared", "yes"


class Place(NamedTuple):
    """Where the environment puts this process."""

    rank: int
    """Number of this process, from 0."""
    size: int
    """Number of all."""
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The processes of this training, seen from one of them."""

    index: int = 0
    """Number of this process, from 0."""
    count: int = 1
    watch: RankWatch | None = None
    """Notices when others do not come; None where this process is alone."""
    is_sharded: bool = False
    """Whether each process holds a part of the weights alone, so that all must compute equally often."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Give this process its share of what all of them have to do together."""
        return list(items[self.index :: self.count])

    def idle_passes(self, num_items: int) -> int:
        """Count how often this process computes for nothing when so many items are shared out and all must be equal."""
        mine = len(range(self.index, num_items, self.count))
        return -(-num_items // self.count) - mine if self.is_sharded else 0

    def totals(self, *values: float) -> tuple[float, ...]:
        """Add up numbers over all processes, in float64; each gets the same sums.

        Raises:
            FineTuneError: T21 where another process is gone.
        """
        if self.watch is None:
            return values
        import torch

        sums = torch.tensor(values, dtype=torch.float64)
        self._all_reduce(sums, "sums")
        return tuple(sums.tolist())

    def largest(self, value: float) -> float:
        """Give the largest value that any process has."""
        if self.watch is None:
            return value
        import torch

        found = torch.tensor([value], dtype=torch.float64)
        self._all_reduce(found, "largest", operation="MAX")
        return float(found)

    def any(self, mine: bool) -> bool:
        """Say whether it is so in any process, the same in all of them."""
        return mine if self.watch is None else self.largest(float(mine)) > 0

    def agree(self, reason: str | None) -> str | None:
        """Give this process's reason, or where only another has one, words for that; None where none has any."""
        return reason or "another process" if self.any(reason is not None) else None

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Put the sum of all processes' gradients in place of each one's own; one that has none counts as zero.

        Weights that are cut up among the processes have had theirs added already.
        """
        if self.watch is None or self.is_sharded:
            return
        import torch

        for bucket in _buckets(parameters):
            flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in bucket])
            self._all_reduce(flat, "gradients")
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)

    def begin_alike(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the weights of the first."""
        if self.watch is None:
            return
        from torch import distributed

        with self.meeting("first weights"):
            for parameter in parameters:
                distributed.broadcast(parameter.data, src=0)

    @contextmanager
    def meeting(self, label: str) -> Iterator[None]:
        """Do something in the block for which all processes must come, and notice where one does not.

        A GPU is only told what to do, and waits for the others later: it is waited for here, where that is seen.
        """
        if self.watch is None:
            yield
            return
        import torch

        with _lost_ranks(), self.watch.waiting(label):
            yield
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()

    def reseed(self, seed: int, step: int) -> None:
        """Give each of several processes random numbers of its own, which follow from seed and step alone."""
        if self.watch is not None:
            import torch

            torch.manual_seed((seed * 1_000_003 + step) * self.count + self.index)

    def announce(self, go_on: bool) -> None:
        """Tell the others that what the first process prepares is there, or that there is nothing to do."""
        if self.watch is not None:
            self.watch.store.set(_PREPARED, _GO_ON if go_on else "no")

    def wait_for_first(self) -> bool:
        """Wait until the first process has prepared everything, however long that takes; say whether to go on."""
        if self.watch is None or self.is_first:
            return True
        from torch.distributed import DistNetworkError, DistStoreError

        while True:
            try:
                self.watch.store.wait([_PREPARED], timedelta(seconds=60))
                return bytes(self.watch.store.get(_PREPARED)).decode() == _GO_ON
            except DistNetworkError as fault:
                raise _lost(str(fault)) from fault
            except DistStoreError:
                continue

    def _all_reduce(self, numbers: torch.Tensor, label: str, *, operation: str = "SUM") -> None:
        from torch import distributed

        with self.meeting(label):
            distributed.all_reduce(numbers, op=getattr(distributed.ReduceOp, operation))


ALONE = Ranks()
_joined = ALONE


def current_ranks() -> Ranks:
    """Give the processes that this one has joined; `ALONE` where it has not."""
    return _joined


def find_place(environment: Mapping[str, str]) -> Place | None:
    """Read from the environment which of several processes this is; None where it is alone.

    Raises:
        FineTuneError: T22 where the environment contradicts itself or names no meeting point.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE")
    elif "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    else:
        return None
    written = {name: environment.get(name, "") for name in (*names, "MASTER_PORT")}
    try:
        index, count = (int(written[name]) for name in names)
        if count == 1:
            return None
        port, address = int(written["MASTER_PORT"]), environment["MASTER_ADDR"]
        if not 0 <= index < count or not 0 < port < 65536:
            raise ValueError
    except (ValueError, KeyError) as fault:
        shown = ", ".join(f"{name}={value or '(not set)'}" for name, value in written.items())
        raise FineTuneError(
            "T22",
            what="the environment does not say which of several processes this is and where they meet",
            where=f"{shown}, MASTER_ADDR={environment.get('MASTER_ADDR', '(not set)')}",
            why="a process that waits at the wrong place waits for ever",
            fix="start them with fine-tune train PLAN --launch torchrun --processes N, or with the script that "
            "--launch slurm --dry-run prints",
        ) from fault
    return Place(index, count, address, port)


@contextmanager
def joined_ranks(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Meet the other processes of this training, where the environment says that there are any.

    Raises:
        FineTuneError: T21 where they do not come, T22 where the environment is no good.
    """
    global _joined  # one process is one rank, as one process has one default group
    place = find_place(environment)
    if place is None:
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    timeout = float(environment.get(TIMEOUT_VARIABLE, TIMEOUT_SECONDS))
    _take_gpu(environment)
    store = _meet(place, timeout)
    distributed.init_process_group(
        _backend(), store=PrefixStore("group", store), rank=place.rank, world_size=place.size,
        timeout=timedelta(seconds=2 * timeout),
    )  # fmt: skip
    watch = RankWatch(PrefixStore("watch", store), index=place.rank, count=place.size, timeout=timeout)
    try:
        _joined = Ranks(index=place.rank, count=place.size, watch=watch)
        yield _joined
    finally:
        _joined = ALONE
        watch.close()
        distributed.destroy_process_group()


def meeting_point() -> Any:
    """Listen on a free port of this machine, for as long as what is returned lives, for processes to meet at.

    Their environment must say so with `HOSTED_VARIABLE`, or the first of them would listen there itself.
    """
    from torch import distributed

    return distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]


def _take_gpu(environment: Mapping[str, str]) -> None:
    """Let each process of a machine compute on a GPU of its own, also where the launcher shows all GPUs to all."""
    import torch

    if torch.cuda.is_available():
        local = int(environment.get("LOCAL_RANK") or environment.get("SLURM_LOCALID") or 0)
        torch.cuda.set_device(local % torch.cuda.device_count())


def _backend() -> str:
    """Use NCCL between GPUs, where PyTorch brings it, and gloo for everything else."""
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available() else "gloo"


def _meet(place: Place, timeout: float) -> Any:
    from torch import distributed

    hosted_by_launcher = os.environ.get(HOSTED_VARIABLE) == "True"
    try:
        return distributed.TCPStore(  # type: ignore[attr-defined]
            place.address, place.port, place.size, is_master=place.rank == 0 and not hosted_by_launcher,
            timeout=timedelta(seconds=timeout), wait_for_workers=False,
        )  # fmt: skip
    except (distributed.DistError, RuntimeError) as fault:
        raise FineTuneError(
            "T21",
            what=f"process {place.rank} of {place.size} does not reach the others",
            where=f"{place.address}:{place.port}",
            why=" ".join(str(fault).split())[:200],
            fix="see that all were started, that the port is open between the machines, and that no other run uses it",
        ) from fault


@contextmanager
def _lost_ranks() -> Iterator[None]:
    """Turn what the library says of a connection that broke into error T21."""
    try:
        yield
    except RuntimeError as fault:
        raise _lost(str(fault)) from fault


def _lost(why: str) -> FineTuneError:
    return FineTuneError(
        "T21",
        what="another process of this training is gone",
        where=f"seen by process {_joined.index} of {_joined.count}",
        why=" ".join(why.split())[:200],
        fix="look at what the other process wrote last; then start again from the last checkpoint",
    )


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Group parameters of one number format, in order, so that each group is sent at once."""
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        size = sum(p.numel() for p in bucket)
        if bucket and (size + parameter.numel() > _BUCKET_NUMBERS or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    import torch

    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
