"""Facility files, inventory and its generations. Never imported by edge."""
