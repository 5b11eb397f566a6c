-- name: next_block
-- The first number of a block of 1024 (the increment of the sequence). Locks nothing beyond the call; what a
-- transaction that is rolled back has taken is skipped.
select nextval('blob_numbers') as first
