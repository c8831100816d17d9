"""Where work goes: what it needs, which groups could serve it, which of them scores best, which slots it gets. Pure."""
