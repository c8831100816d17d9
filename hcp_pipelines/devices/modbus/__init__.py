"""A site's revenue meter, relay, breakers and cooling plant over Modbus TCP (docs/modbus.md), our side."""
