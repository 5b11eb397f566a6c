-- name: create_session
select create_session($1, $2, $3, $4, $5::smallint, $6, $7::jsonb) as session_no

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
