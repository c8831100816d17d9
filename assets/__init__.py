"""Dagster assets: thin; each calls one function of hcp_pipelines."""
