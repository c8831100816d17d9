"""The vocabulary: frozen types, enums, units, errors, clocks. Imports nothing of ours."""
