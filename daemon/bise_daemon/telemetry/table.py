"""Every metric there is. Documents, alert rules and the dashboard in deploy/monitoring are held to it."""

from __future__ import annotations

from bise_daemon.telemetry.answers import ANSWER_METRICS
from bise_daemon.telemetry.device import DEVICE_METRICS
from bise_daemon.telemetry.forwarding import FORWARDING_METRICS

METRICS = (*ANSWER_METRICS, *DEVICE_METRICS, *FORWARDING_METRICS)
