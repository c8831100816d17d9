"""Telemetry at the gateway (docs/telemetry.md).

`sampler` takes a sample of all devices each second from what was read anyway, `spool` keeps samples on disk until they are
acknowledged, `segments` are its files, `service` streams them to the collector. All but taking and sending happens in one
thread of low priority: it must not hold up a switch.
"""
