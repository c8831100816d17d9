"""Customers' work: who asks for what and when. Where its figures come from: docs/workloads.md."""
