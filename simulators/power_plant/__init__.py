"""Power and cooling of a simulated site: breakers, relay, cooling plant, and their Modbus TCP server (docs/modbus.md)."""
