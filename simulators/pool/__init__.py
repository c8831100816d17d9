"""The mining pool: Stratum V1 and V2, the accounts of every miner, the pool's statistics over HTTP (docs/pool.md)."""
