"""The crew of dask.distributed: a cluster on this computer, or a running one that is given by its scheduler.

A worker is a process with two threads (`work`). On this computer workers, scheduler and client talk by TLS with
certificates that are made for the run, on the loopback address only. A worker that dies is restarted by dask; its tasks
come back as lost.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import VFQError
from .crew import Ended, Loss
from .manifest import lacking
from .work import MOST_SCANS, Finished, Settings, Task, work_on

WORKER_BYTES = 2_500_000_000  # that a worker with two scans of 512 x 512 x 400 may take
AHEAD = 2  # tasks that wait for each worker, beside those that it has begun
CONNECT_S, PATIENCE_S = 10.0, 1800.0  # for one attempt to connect, and for a scheduler to come back
LOOK_S = 1.0
SAME_PACKAGES = ("dask", "distributed", "python")
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # the cores belong to several workers
MEMORY_EVENTS = "worker-restart-memory"  # dask's nanny reports there whom it ended


def local_size(workers: int | None, gpus: int = 0) -> tuple[int, int]:
    """Return the number of workers on this computer, and the bytes of memory that each may take.

    workers : as the user asks; by default one for each GPU, else one for each core, as far as the memory reaches.
    """
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    available = psutil.virtual_memory().available
    count = workers or max(1, min(gpus or cores, available // WORKER_BYTES))
    return count, int(available / count)


class DaskCrew:
    """Workers of dask; see `Crew`. Make it with `local_crew` or `remote_crew`.

    connect : returns a client of the scheduler; raises OSError as long as there is none.
    say : is given sentences for the user.

    Attributes
    ----------
    work : measures one scan; a test replaces it.
    """

    def __init__(self, settings: Settings, connect: Callable[[], Any], say: Callable[[str], None], cluster: Any = None):
        self._settings, self._connect, self._say, self._cluster = settings, connect, say, cluster
        self.work: Callable[[Task, Settings], Finished] = work_on
        self._client = connect()
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[Any, tuple[Any, Task]] = {}  # by dask's key; a future that nobody holds is cancelled

    @property
    def window(self) -> int:
        """See `Crew`."""
        with suppress(Exception):
            return max(1, len(self._client.nthreads())) * (MOST_SCANS + AHEAD)
        return MOST_SCANS + AHEAD

    @property
    def dashboard(self) -> str:
        """The address of dask's dashboard; "" if it is not installed."""
        return str(self._client.dashboard_link) if find_spec("bokeh") else ""

    def submit(self, task: Task) -> None:
        """See `Crew`. VFQError `no_scheduler` if it is lost and does not come back."""
        self._reconnect()
        future = self._client.submit(self.work, task, self._settings, pure=False, retries=0)
        self._tasks[future.key] = (future, task)
        future.add_done_callback(self._ended.put)

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Crew`."""
        futures = []
        with suppress(queue.Empty):
            futures.append(self._ended.get(timeout=timeout_s))
            while True:
                futures.append(self._ended.get_nowait())
        ended = [end for future in futures if (end := self._end(future))]
        return ended + (self._all_lost() if self._client.status == "closed" else [])

    def close(self) -> None:
        """See `Crew`."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it reports each connection that ends
        with suppress(Exception):
            self._client.cancel([future for future, _ in self._tasks.values()], force=True)
        with suppress(Exception):
            self._client.close(timeout=2)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=2)

    def _end(self, future: Any) -> Ended | None:
        _, task = self._tasks.pop(future.key, (None, None))
        if task is None:  # lost with a client that was closed
            return None
        if future.status == "finished":
            with suppress(Exception):  # the result was on a worker that has died in the meantime
                result: Finished = future.result(timeout=CONNECT_S)
                return Ended(task, result)
            return Ended(task, loss="lost")
        error = future.exception(timeout=CONNECT_S) if future.status == "error" else None
        return Ended(task, loss="lost") if error is None else self._failed(task, error)

    def _failed(self, task: Task, error: BaseException) -> Ended:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return Ended(task, loss=self._why(error))
        raise VFQError(
            "versions_differ",
            f"A worker cannot run this program ({type(error).__name__}: {str(error).splitlines()[0][:200]}). Install "
            "the same version of it, and of its packages, on all computers.",
        )

    def _why(self, error: Any) -> Loss:
        """Return if the worker was ended because its memory ran out."""
        with suppress(Exception):
            events = self._client.get_events(MEMORY_EVENTS)
            if any(event[1].get("worker") == error.last_worker.address for event in events):
                return "memory"
        return "died"

    def _all_lost(self) -> list[Ended]:
        lost = [Ended(task, loss="lost") for _, task in self._tasks.values()]
        self._tasks.clear()
        return lost

    def _reconnect(self) -> None:
        """Wait until there is a scheduler again."""
        if self._client.status == "running":
            return
        self._say("The scheduler is gone. The run goes on when it is back; finished cases are kept.")
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            if self._client.status == "running":
                return
            if self._client.status == "closed":
                with suppress(OSError, TimeoutError):
                    self._client = self._connect()
                    return
            time.sleep(LOOK_S)
        raise VFQError("no_scheduler", "The scheduler did not come back. Start it, then run the same command again.")


def local_crew(settings: Settings, workers: int | None, say: Callable[[str], None], gpus: int = 0) -> DaskCrew:
    """Return a crew on this computer. VFQError `missing_dependency`."""
    distributed = _distributed()
    if not find_spec("cryptography"):
        raise lacking("cryptography")
    _configure()
    count, limit = local_size(workers, gpus)
    cluster = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=MOST_SCANS,
        memory_limit=limit,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0" if find_spec("bokeh") else None,
        security=True,
        silence_logs=logging.CRITICAL,
    )
    say(f"{count} worker{'s' if count > 1 else ''} on this computer, each with up to {limit / 1e9:.1f} GB of memory.")
    crew = DaskCrew(settings, lambda: distributed.Client(cluster), say, cluster)
    crew._client.register_plugin(_plugin(gpus))
    return crew


def remote_crew(settings: Settings, scheduler: str, say: Callable[[str], None]) -> DaskCrew:
    """Return a crew of a running scheduler, an address such as tcp://host:8786 or its scheduler file.

    VFQError `missing_dependency`, `no_scheduler`, `versions_differ`.
    """
    distributed = _distributed()
    _configure()

    def connect() -> Any:
        """Return a client; a scheduler file is read again, as the scheduler may have moved."""
        given = {"scheduler_file": scheduler} if Path(scheduler).suffix == ".json" else {"address": scheduler}
        if "scheduler_file" in given and not Path(scheduler).exists():
            raise FileNotFoundError(scheduler)
        return distributed.Client(**given, timeout=CONNECT_S)

    try:
        crew = DaskCrew(settings, connect, say)
    except (OSError, TimeoutError, ValueError) as error:
        raise VFQError(
            "no_scheduler",
            f"No scheduler answers at {scheduler!r} ({type(error).__name__}). Start it with dask scheduler, and check "
            "the address.",
        ) from None
    _check_packages(crew._client)
    return crew


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise lacking("distributed") from None
    return distributed


def _configure() -> None:
    import dask

    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 0,  # a scan whose worker died is tried again by us, alone
            "distributed.scheduler.worker-saturation": 1.0,  # so that a death concerns the scans of that worker only
            "distributed.worker.memory.target": False,  # results are small: there is nothing to spill to the disk
            "distributed.worker.memory.spill": False,
            # dask's own list also sets MALLOC_TRIM_THRESHOLD_: large arrays then cost a page fault for each page
            "distributed.nanny.pre-spawn-environ": dict.fromkeys(ONE_THREAD, 1),
            "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
            # tasks last for seconds: what dask does every few milliseconds for shorter ones would take time from them
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "500ms",
            "distributed.admin.system-monitor.interval": "2s",
            "distributed.admin.system-monitor.gil.enabled": False,
            "distributed.scheduler.active-memory-manager.start": False,  # no result is ever on two workers
        }
    )


def _plugin(gpus: int) -> Any:
    """Return what each worker on this computer does first: ignore Ctrl+C, and take a GPU by its number."""
    from distributed import WorkerPlugin

    class Local(WorkerPlugin):
        """It is set up before anything uses CUDA; Ctrl+C in a terminal goes to the workers as well."""

        def setup(self, worker: Any) -> None:
            """See dask."""
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if gpus:
                given = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
                os.environ["CUDA_VISIBLE_DEVICES"] = given.split(",")[int(worker.name) % gpus]

    return Local()


def _check_packages(client: Any) -> None:
    """Raise VFQError `versions_differ` if scheduler or workers have other versions of dask or of Python."""
    told = client.get_versions(check=False)
    own = _versions(told["client"])
    others = [told["scheduler"], *told["workers"].values()]
    for other in map(_versions, filter(None, others)):
        differing = [name for name in SAME_PACKAGES if own[name] != other[name]]
        if differing:
            name = differing[0]
            raise VFQError(
                "versions_differ",
                f"The computers have different versions of {name}: {own[name]} here, {other[name]} there. Install the "
                "same versions on all of them.",
            )


def _versions(told: dict[str, Any]) -> dict[str, str]:
    python = ".".join(map(str, str(told["host"].get("python", "")).split(".")[:2]))
    return {"python": python, **{name: str(told["packages"].get(name)) for name in ("dask", "distributed")}}
