"""The .proto contract between allocator and gateway, and its generated code."""
