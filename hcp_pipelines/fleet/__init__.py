"""Facilities as operators describe them, and the inventory the platform runs on. No decisions here."""
