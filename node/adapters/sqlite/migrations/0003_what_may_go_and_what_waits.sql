-- due_ms = 0: at once. What waits for an instant is in an index of its own: looking for what may go does not walk over it, and
-- what may go at once, as nearly all does, is not in that one.
DROP INDEX outbox_next;
DROP INDEX outbox_sender;
DROP INDEX outbox_due;
UPDATE outbox SET due_ms = 0 WHERE state = 'waiting' AND attempts = 0 AND due_ms <= since_ms;
CREATE INDEX outbox_next ON outbox (neighbour, lane, item) WHERE state <> 'held' AND due_ms = 0;
CREATE INDEX outbox_sender ON outbox (neighbour, lane, sender, item) WHERE state <> 'held' AND due_ms = 0;
CREATE INDEX outbox_due ON outbox (neighbour, lane, due_ms) WHERE state <> 'held' AND due_ms > 0;
-- What an office has fetched does not expire: it is not walked over either.
DROP INDEX mailbox_expiry;
CREATE INDEX mailbox_expiry ON mailbox (expires_ms) WHERE expires_ms > 0 AND fetched_ms IS NULL AND state IN ('initial', 'processing', 'fail');
-- A trace finds these by (origin, id) and (sender, document_id), one step for each origin or sender.
DROP INDEX envelope_id;
DROP INDEX submission_id;
DROP INDEX submission_by_document;
