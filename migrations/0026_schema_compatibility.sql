--! oldest program: 25
-- Programs of two versions run beside each other while servers are replaced one after the other.

-- The newest migration that a program must know at least to run on a database with this one. null: this one itself.
alter table schema_migrations add column oldest_program integer;
