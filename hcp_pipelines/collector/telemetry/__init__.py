"""Telemetry: samples of all devices from the gateways into the lake, each once (docs/telemetry.md).

`streams` dials the gateways, `intake` is what has come in and is not stored yet, `rows` makes Arrow of it, `store` writes it and
knows what is stored, `writer` is the thread that does so, `rollups` makes minutes and hours, `dirty` knows which are due,
`retention` lets go of what is old, `roller` is their thread, `service` is all of it.
"""
