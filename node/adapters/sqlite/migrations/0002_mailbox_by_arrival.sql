-- What was laid before an organ after a given item: a page is read from there, not sorted out of all that waits.
CREATE INDEX mailbox_arrival ON mailbox (organ, kind, item) WHERE state IN ('initial', 'processing', 'fail');
