-- Which Redis a stream was read from: the id of its replication, which a failover and a restart change. Where it is another one, entries may
-- stand before the cursor that were never read, and the stream is read anew. null: not known yet.
alter table history_cursors add column epoch text;
