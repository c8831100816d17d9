"""Miners over their own protocols: stock Antminer, WhatsMiner V2 and V3, LuxOS (docs/devices.md).

From the socket inwards: `transport`, `web` (bytes under a deadline) → `api` (pyasic's protocol objects on top of them) → codecs
(`antminer_codec` …, pure) → devices (`antminer` …: read, profile, sleep, wake) → `drive` (one command and its read-back) → `site`
(all miners of a facility). pyasic costs seconds and 50 MB to import: nothing outside imports it but by way of `site`.
"""
