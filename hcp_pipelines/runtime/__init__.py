"""The shell of every process: logging, /metrics and /healthz, signals, ready file."""
