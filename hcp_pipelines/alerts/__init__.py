"""Daemon: what is wrong, once each, told to people outside this machine. It watches; it changes nothing but its own tables."""
