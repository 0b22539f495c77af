"""Game records: RingRift's SQLite schema version 18, written in batches and read as a stream."""
