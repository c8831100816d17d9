"""Simulated ASIC miners over the protocols of the real ones: stock Antminer, WhatsMiner V2 and V3, LuxOS (docs/protocols.md).

From the socket inwards: `server` (listeners) → `conversation`, `cgminer`, `web`, `framed` (bytes of one connection) → `antminer`,
`whatsminer`, `luxos` and their neighbours (what each dialect answers) → `miner` (what a device remembers and obeys) → `report`
(what it says of itself). The truth is made in `simulators.fleet`; nothing here makes power or hashes.
"""
