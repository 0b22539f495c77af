"""What a machine has and how it is: disk, memory, GPU. Measured on the machine itself."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import boot_id
from ringrift_ops.hosts.versions import versions
from ringrift_ops.settings import CONFIGS
from ringrift_ops.store import sha256_file

_GPU_SECONDS = 10.0


def facts(home: Home) -> dict[str, Any]:
    """Return versions, boot id, time, cores, load, disk and memory (bytes), GPUs, running jobs and the last heartbeat.

    ``heartbeat_age`` is the age in seconds of the newest heartbeat of a running job, None without one.
    """
    jobs = LocalJobs(home.jobs)
    running = [status for job_id in jobs.all() if (status := jobs.poll(job_id)).state is JobState.RUNNING]
    ages = [status.heartbeat_age for status in running if status.heartbeat_age is not None]
    disk = shutil.disk_usage(home.root)
    return {
        "versions": versions(),
        "boot_id": boot_id(),
        "time": time.time(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "disk_free": disk.free,
        "disk_total": disk.total,
        "memory_free": memory("MemAvailable"),
        "memory_total": memory("MemTotal"),
        "gpus": gpus(),
        "running": [status.job_id for status in running],
        "heartbeat_age": min(ages, default=None),
    }


def canonical_nets(home: Home) -> dict[str, str]:
    """Return {config: sha256} of the nets under their canonical names here, by their bytes; a file is read once."""
    found = {}
    for config in CONFIGS:
        link = home.canonical_link(config)
        with suppress(OSError):  # one that cannot be read is one it has not
            seen = link.stat()
            found[config] = _digest(str(link), seen.st_ino, seen.st_mtime_ns, seen.st_size)
    return found


@lru_cache(maxsize=64)
def _digest(path: str, *version: int) -> str:
    """``version`` stands for the content, so that a file which has changed is read again."""
    return sha256_file(Path(path))


@cache
def features() -> dict[str, str]:
    """Return what of this machine could change a floating-point sum: kind, processor, digest of its flags."""
    source = Path("/proc/cpuinfo")
    said = dict[str, str]()
    for line in source.read_text(encoding="utf-8", errors="replace").splitlines() if source.exists() else []:
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    flags = " ".join(sorted((said.get("flags") or said.get("Features") or "").split()))
    return {
        "machine": platform.machine(),
        "processor": said.get("model name") or platform.processor() or "unknown",
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:12] if flags else "unknown",
    }


def memory(field: str) -> int | None:
    """Return a figure of ``/proc/meminfo`` in bytes; None where there is no such file."""
    source = Path("/proc/meminfo")
    for line in source.read_text(encoding="ascii").splitlines() if source.exists() else []:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def gpus() -> list[dict[str, Any]]:
    """Return {"name", "memory_total", "memory_used" (MiB), "utilization" (percent)} of each GPU ``nvidia-smi`` shows.

    No such command is no GPU; one that fails or hangs is told as {"error"}.
    """
    fields = "name,memory.total,memory.used,utilization.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=False)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        return [{"error": f"nvidia-smi: {error}"}]
    if answer.returncode != 0:
        return [{"error": f"nvidia-smi: {(answer.stderr or answer.stdout).strip()[:200]}"}]
    found: list[dict[str, Any]] = []
    for line in answer.stdout.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) != 4:
            return [{"error": f"nvidia-smi said {line[:80]!r}"}]
        total, used, busy = (float(word) if word.replace(".", "").isdigit() else None for word in words[1:])
        found.append({"name": words[0], "memory_total": total, "memory_used": used, "utilization": busy})
    return found
