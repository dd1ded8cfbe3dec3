"""Message types by topic family: msgspec Structs are the source, JSON Schemas in `json/` are generated."""
