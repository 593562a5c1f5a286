"""What the daemon tells machines: metrics, by OpenTelemetry's conventions where there are any."""
