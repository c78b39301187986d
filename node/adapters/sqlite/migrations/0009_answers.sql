-- What else a package says of itself, in the row of the document it is.
ALTER TABLE ledger ADD COLUMN signed TEXT NOT NULL DEFAULT ''; -- what is known of its own signatures: 'valid', 'indeterminate', 'unsigned'
ALTER TABLE ledger ADD COLUMN flaws TEXT;                      -- what was missing or odd in it, words with spaces between; NULL: nobody looked

-- Trả lời của cơ quan: until when a document wants to be dealt with (0: it does not say, or that was looked at), and when the office
-- that received it first said a status of it.
ALTER TABLE submission ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX submission_due ON submission (due_ms) WHERE due_ms > 0;
ALTER TABLE mailbox ADD COLUMN answered_ms INTEGER;
