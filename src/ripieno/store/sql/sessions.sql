-- name: create_session
-- The session and its default options refer to each other, so both numbers are taken first.
with numbers as (
    select nextval(pg_get_serial_sequence('sessions', 'session_no')) as session_no,
           nextval(pg_get_serial_sequence('options', 'options_no')) as options_no
), created as (
    insert into sessions (session_no, id, default_options_no) overriding system value
    select session_no, $1, options_no from numbers
    on conflict (id) do nothing
    returning session_no, default_options_no
), logged as (
    insert into changes (session_no, kind, status) select session_no, 1, 1 from created
)
insert into options
    (options_no, session_no, digest, max_duration_us, max_retries, priority, partition, options)
    overriding system value
select default_options_no, session_no, $2, $3, $4, $5, $6, $7 from created
returning session_no

-- name: find_session
select s.session_no, s.status, s.default_options_no,
       o.max_duration_us, o.max_retries, o.priority, o.partition, o.options
from sessions s join options o on o.options_no = s.default_options_no
where s.id = $1

-- name: find_default_options
select s.id, s.default_options_no, o.max_duration_us, o.max_retries, o.priority, o.partition, o.options
from sessions s join options o on o.options_no = s.default_options_no
where s.session_no = $1

-- name: list_sessions
select id from sessions
where ($1::text[] is null or id = any($1::text[])) and ($2::smallint[] is null or status = any($2::smallint[]))
order by session_no
limit $3
