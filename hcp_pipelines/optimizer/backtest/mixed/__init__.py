"""The back-test of a mixed facility: miners of several models, GPUs, reserves and coincident peaks, settled by one ledger."""
