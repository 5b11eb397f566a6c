-- name: inputs_of_task
-- What a task runs on, by its number. Without a size there is no payload: it was deleted, or is a result that is not
-- there yet. Locks nothing.
select t.id, se.id as session_id, o.max_duration_us, o.max_retries, o.priority, o.options,
       t.expected_output_keys, t.data_dependencies, t.payload_key, p.status as payload_status,
       b.data, b.size, b.object, b.sha256
from tasks t
join sessions se on se.session_no = t.session_no
join options o on o.options_no = t.options_no
left join results p on p.session_no = t.session_no and p.key = t.payload_key
left join blobs b on b.blob_no = coalesce(t.payload_no, p.blob_no)
where t.task_no = $1
