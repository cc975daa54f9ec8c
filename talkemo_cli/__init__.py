"""The command line of talkemo: it parses and reports, and holds no maths."""

import os


def _free_cores() -> int:
    """Cores that no other process is using right now, at least one; all cores where the system does not say."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            running = int(file.read().split()[3].partition("/")[0])  # threads that run or could, this one included
    except (OSError, ValueError, IndexError):
        return cores
    return max(1, min(cores, cores - running + 1))


# Several processes side by side must not slow each other: threads only for cores that are free, and those that wait for
# work sleep instead of spinning. The libraries read this when they are loaded, before which it has to be set.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, str(_free_cores()))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("KMP_BLOCKTIME", "0")
