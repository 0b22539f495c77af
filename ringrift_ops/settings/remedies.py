"""How diagnosis looks, and how far the remedies around training go: part of the tables of policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ringrift_ops.settings.checks import Row

Mode = Literal["off", "observe", "act"]


class DiagnosisRules(Row):
    """How much is read, and when a figure counts as evidence."""

    log_bytes: int = Field(default=1 << 18, description="read from the end of a log")
    log_lines: int = Field(default=200, description="of them looked at")
    command_seconds: float = Field(default=10.0, description="for dmesg, nvidia-smi, py-spy")
    clock_seconds: float = Field(default=120.0, description="by which the kernel's clock may be off")
    disk_free_bytes: int = Field(default=100 * 10**6, description="with less the disk counts as full")
    memory_share: float = Field(default=0.9, description="of a machine's or GPU's memory in use: short of it (R44)")
    silence_seconds: float = Field(default=600.0, description="of a job whose pace is not known: it hangs")
    stale_epochs: int = Field(default=3, description="epochs without improvement that are a plateau (R21)")
    worse_ratio: float = Field(default=1.2, description="validation loss over training loss: overfitting")
    least: float = Field(default=0.3, description="confidence below which a cause is not named")


DIAGNOSIS = DiagnosisRules()


class RemedyRules(Row):
    """The bounds of the remedies around training. Each: how often for one target within the window."""

    cron: str = Field(default="*/10 * * * *", description="when they are looked for, UTC")
    window_seconds: int = Field(default=86_400)
    lease: int = Field(default=3, ge=1, description="stale leases released, per config")
    stalled_job: int = Field(default=3, ge=1, description="stalled jobs ended, per job")
    links: int = Field(default=5, ge=1, description="repairs of a config's links")
    undistributed: int = Field(default=5, ge=1, description="deliveries of a net again, per config")
    memory: int = Field(default=2, ge=1, description="moves of a training to a host with more memory, per job")
    lost_host: int = Field(default=5, ge=1, description="moves of a stage from a host that is lost, per job")
    step_factor: float = Field(default=3.0, gt=1.0, description="observed steps of silence that make a job stalled")
    least_silence_seconds: float = Field(default=30.0, description="of a job that is quick otherwise")


REMEDIES = RemedyRules()
