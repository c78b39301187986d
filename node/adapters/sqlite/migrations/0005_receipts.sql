-- Biên nhận: what a neighbour has signed for a batch that it took from us, with the leaves of its Merkle tree in their order.
CREATE TABLE receipt (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms     INTEGER NOT NULL,        -- as it states
  key       TEXT NOT NULL,           -- certificate.digest
  statement BLOB NOT NULL,
  signature BLOB NOT NULL,
  leaves    BLOB NOT NULL
);
CREATE INDEX receipt_at ON receipt (at_ms);
-- The receipt of whoever has taken this key from us; it may be forgotten before the key is.
ALTER TABLE seen ADD COLUMN receipt INTEGER;
