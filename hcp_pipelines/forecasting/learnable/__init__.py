"""Models that anyone can add: examples in, quantiles out, one small protocol."""
