"""The platform: everything that would also run on a real site."""
