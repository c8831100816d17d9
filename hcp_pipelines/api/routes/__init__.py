"""The endpoints, a module a subject: each reads or writes through the package that owns the matter, and gives it a shape."""
