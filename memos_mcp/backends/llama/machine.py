"""What this machine has for a model: cores and memory, as far as a container leaves them to this process.

Knows nothing of models. What cannot be found out is left unlimited.
"""

from __future__ import annotations

import os
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def threads() -> int:
    """Physical cores that this process may use, one at least: a second thread on a core only waits for the first."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = {_read(CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in usable}
    return max(1, min(len(siblings), int(quota(CGROUP))))


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None if that cannot be found out."""
    found = [line.split() for line in (_read(MEMINFO) or "").splitlines() if line.startswith("MemAvailable:")]
    free = [1024 * int(found[0][1])] if found else []
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit and used and limit.isdigit():
        free.append(max(int(limit) - int(used), 0))
    return min(free, default=None)


def resident_memory(process: int) -> int:
    """Bytes that a process has in memory; 0 if that cannot be found out."""
    fields = (_read(Path(f"/proc/{process}/statm")) or "0 0").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def quota(cgroup: Path) -> float:
    """Cores' worth of time that a container may use; one at least, more than there are if it is not limited."""
    quota, period = [*(_read(cgroup / "cpu.max") or "max 1").split(), "1"][:2]
    if not quota.isdigit():
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us") or "-1"
        period = _read(cgroup / "cpu/cpu.cfs_period_us") or "1"
    return max(int(quota) / int(period), 1.0) if quota.isdigit() else float(os.cpu_count() or 1)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
