"""The meter of customers' work: which of its time is billed, what that used, and what it costs. Frames in, frames out."""
