-- What is kept by key: a batch replaces the rows of the keys that it touches.
--@ source r {columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR, t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}}
--@ source mixed {columns: {kind: VARCHAR, s: VARCHAR, i: INTEGER}}
--@ record r {"k":"a","i":1,"s":"x","f":true,"t":"2026-01-01T10:00:00"}
--@ record r {"k":"a","i":3,"s":"y","f":false,"t":"2026-01-01T11:00:00"}
--@ record r {"k":"b","i":5,"s":"z","f":true,"t":"2026-01-01T09:00:00"}
--@ record r {"k":"a","i":2,"s":"x","f":true,"t":"2026-01-01T15:30:00"}
--@ record r {"i":7}

--@ case median keys
--@ why keeps what it reads
SELECT k, median(i) AS m FROM r GROUP BY k
--> a | 2.0
--> b | 5.0
--> NULL | 7.0

--@ case newest_of_all_columns keys
--@ record mixed {"kind":"a","s":"x","i":1}
--@ record mixed {"kind":"a","s":"y","i":2}
SELECT * EXCLUDE (place) FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY i DESC) AS place FROM mixed) WHERE place = 1
--> a | y | 2

--@ case quantiles_and_mode keys
--@ why keeps what it reads
SELECT k, j, quantile_cont(x, 0.9) AS q, quantile_disc(i, [0.1, 0.5]) AS qs, mode(s) AS common FROM r GROUP BY ALL

--@ case ordered_list_and_string_agg keys
--@ why keeps what it reads
SELECT k, list(i ORDER BY t, _position) AS l, string_agg(s, ',' ORDER BY s, _position) AS names FROM r GROUP BY k
--> a | [1, 3, 2] | x,x,y
--> b | [5] | z
--> NULL | [7] | NULL

--@ case having_over_expressions keys
--@ why keeps what it reads
SELECT upper(k) AS name, j + 1 AS j1, median(n) AS m, count(DISTINCT s) AS names FROM r WHERE f GROUP BY 1, 2 HAVING median(n) > 0

--@ case two_keys_with_where keys
--@ why keeps what it reads
SELECT date_trunc('day', t) AS day, k, mad(x) AS spread, count(*) AS n FROM r WHERE t IS NOT NULL GROUP BY day, k

--@ case alias_and_filter keys
--@ why keeps what it reads
SELECT q.k, median(q.i) FILTER (WHERE q.f) AS m FROM r AS q WHERE q.i > -100 GROUP BY q.k

--@ case having_count keys
--@ why keeps what it reads
SELECT k, median(i), count(*) FROM r GROUP BY k HAVING count(*) > 10

--@ case histogram keys
--@ why keeps what it reads
SELECT k AS kk, histogram(j) AS h FROM r GROUP BY kk

--@ case distinct aggregate
SELECT DISTINCT k, j FROM r

--@ case distinct_expression aggregate
SELECT DISTINCT upper(k) AS u FROM r WHERE i > 0
--> A
--> B
--> NULL

--@ case running_sum_and_count keys
--@ why keeps what it reads
SELECT _position AS p, k, sum(i) OVER (PARTITION BY k ORDER BY _position) AS running, count(*) OVER (PARTITION BY k) AS n FROM r
--> 0 | a | 1 | 3
--> 1 | a | 4 | 3
--> 2 | b | 5 | 1
--> 3 | a | 6 | 3
--> 4 | NULL | 7 | 1

--@ case rank_and_lag keys
--@ why keeps what it reads
SELECT _position AS p, k, rank() OVER (PARTITION BY k, j ORDER BY i) AS place, lag(i) OVER (PARTITION BY k ORDER BY t, _position) AS before FROM r

--@ case star_and_row_number keys
--@ why keeps what it reads
SELECT *, row_number() OVER (PARTITION BY k ORDER BY i DESC, _position) AS place FROM r

--@ case moving_average keys
--@ why keeps what it reads
SELECT _position AS p, avg(x) OVER (PARTITION BY k ORDER BY _position ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS moving FROM r WHERE k IS NOT NULL

--@ case named_window keys
--@ why keeps what it reads
SELECT _position AS p, sum(i) OVER w AS a, max(i) OVER w AS b FROM r WINDOW w AS (PARTITION BY k, date_trunc('day', t) ORDER BY t)

--@ case subquery_over_groups keys
--@ why keeps what it reads
SELECT k, n FROM (SELECT k, count(*) AS n FROM r GROUP BY k) WHERE n > 3

--@ case aggregate_of_aggregates keys
--@ why keeps what it reads
SELECT k, max(n) AS most FROM (SELECT k, j, count(*) AS n FROM r GROUP BY k, j) GROUP BY k

--@ case top_of_groups keys
--@ why keeps what it reads
SELECT k, s, n FROM (SELECT k, s, count(*) AS n FROM r GROUP BY k, s) QUALIFY row_number() OVER (PARTITION BY k ORDER BY n DESC, s) <= 2

--@ case with_queries keys
--@ why keeps what it reads
WITH per AS (SELECT k, j, sum(i) AS total FROM r GROUP BY k, j),
     best AS (SELECT k, max(total) AS top FROM per GROUP BY k)
SELECT * FROM best WHERE top > 0

--@ case session_windows keys
--@ why keeps what it reads
WITH gaps AS (SELECT *, t - lag(t) OVER (PARTITION BY k ORDER BY t, _position) AS gap FROM r WHERE t IS NOT NULL),
     marked AS (SELECT *, sum(CASE WHEN gap IS NULL OR gap > INTERVAL 3 HOUR THEN 1 ELSE 0 END) OVER (PARTITION BY k ORDER BY t, _position) AS session FROM gaps)
SELECT k, session, min(t) AS first_at, max(t) AS last_at, count(*) AS n FROM marked GROUP BY k, session
--> a | 1 | 2026-01-01 10:00:00 | 2026-01-01 11:00:00 | 2
--> a | 2 | 2026-01-01 15:30:00 | 2026-01-01 15:30:00 | 1
--> b | 1 | 2026-01-01 09:00:00 | 2026-01-01 09:00:00 | 1

--@ case subquery_alias keys
--@ why keeps what it reads
SELECT k, r2.m FROM (SELECT k, median(i) AS m FROM r GROUP BY ALL) AS r2

--@ case double_key keys
--@ why keeps what it reads
SELECT x AS key, median(i) AS m FROM r GROUP BY x

--@ case unnest_of_list keys
--@ why keeps what it reads
SELECT k, unnest(l) AS e FROM (SELECT k, list(i ORDER BY _position) AS l FROM r GROUP BY k)

--@ case struct_of_aggregates aggregate
SELECT k, {'n': count(*)} AS st FROM r GROUP BY k

--@ case avg_of_timestamp keys
--@ why keeps what it reads
SELECT k, avg(t) AS a, max([i]) AS m FROM r GROUP BY k

--@ case quoted_names keys
--@ why keeps what it reads
SELECT "größe" AS "Größe", median(i) AS "M i" FROM (SELECT k AS "größe", i FROM r) GROUP BY ALL

--@ case collate_argument keys
--@ why keeps what it reads
SELECT k, max(s COLLATE NOCASE) AS m FROM r GROUP BY k

--@ case payload_and_offset keys
--@ why keeps what it reads
SELECT _offset AS o, count(*) OVER (PARTITION BY json_extract_string(_payload, '$.a')) AS n FROM r

--@ case latest keys
--@ why keeps the first
SELECT k, i, s, _position AS p FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1
--> a | 2 | x | 3
--> b | 5 | z | 2
--> NULL | 7 | NULL | 4

--@ case top_three keys
--@ why keeps the first
SELECT k, i, t FROM r WHERE t IS NOT NULL QUALIFY row_number() OVER (PARTITION BY k ORDER BY t DESC, _position) <= 3

--@ case top_with_place keys
--@ why keeps the first
SELECT k, i, row_number() OVER (PARTITION BY k ORDER BY i DESC NULLS LAST, _position) AS place FROM r QUALIFY place < 4
--> a | 3 | 1
--> a | 2 | 2
--> a | 1 | 3
--> b | 5 | 1
--> NULL | 7 | 1

--@ case latest_star keys
--@ why keeps the first
SELECT * FROM r QUALIFY row_number() OVER (PARTITION BY k, j ORDER BY _position DESC) = 1

--@ case latest_by_subquery keys
--@ why keeps the first
SELECT * EXCLUDE (rn) FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY t DESC, _position DESC) AS rn FROM r) WHERE rn = 1 AND i IS NOT NULL

--@ case distinct_on keys
--@ why keeps the first
SELECT DISTINCT ON (k) k, i, t, _position AS p FROM r ORDER BY k, t DESC NULLS LAST, _position

--@ case distinct_on_expressions keys
--@ why keeps the first
SELECT DISTINCT ON (upper(k), j) k, j, s FROM r WHERE f ORDER BY i, _position

--@ case aggregate_of_latest keys
--@ why keeps the first
SELECT k, max(i) AS highest, count(*) AS n FROM (SELECT k, j, i FROM r QUALIFY row_number() OVER (PARTITION BY k, j ORDER BY _position DESC) = 1) GROUP BY k

--@ case with_latest keys
--@ why keeps the first
WITH latest AS (SELECT k, f, n FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1) SELECT k, n FROM latest WHERE f
--> a | NULL
--> b | NULL

-- Rows that are equal in what is ordered by are taken in the order of their positions.
--@ case ties_of_latest keys
--@ record r {"k":"a","i":1,"j":1}
--@ record r {"k":"a","i":2,"j":1}
--@ record r {"k":"a","i":3,"j":1}
--@ no random
SELECT k, i FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY j) = 1
--> a | 1

--@ case conversion_fails_in_the_aggregate keys
--@ record r {"k":"a","s":"1"}
--@ record r {"k":"a","s":"many"}
--@ record r {"k":"a","s":"3"}
--@ no random
--@ quarantined 1
SELECT k, median(CAST(s AS INTEGER)) AS m FROM r GROUP BY k
--> a | 2.0

--@ case median_in_order keys
--@ why ORDER BY is dropped
SELECT k, median(i) AS m FROM r GROUP BY k ORDER BY k

--@ case distinct_on_an_output_that_hides_a_column keys
SELECT DISTINCT ON (k) s AS k, k AS s, i FROM r ORDER BY k, i DESC, _position

--@ case distinct_on_ordered_by_an_output keys
SELECT DISTINCT ON (k) k, -i AS i FROM r ORDER BY k, i, _position

--@ case partitions_by_a_column_that_an_output_hides keys
SELECT s AS k, i, row_number() OVER (PARTITION BY k ORDER BY i, _position) AS n FROM r QUALIFY n = 1

--@ case groups_by_a_column_that_an_output_hides keys
SELECT length(k) AS k, median(i) AS m FROM r GROUP BY r.k

--@ case fails_on_a_record_that_is_not_the_newest keys
--@ record r {"k":"a","s":"many"}
--@ record r {"k":"a","s":"17"}
--@ quarantined 1
SELECT DISTINCT ON (k) k, CAST(s AS INTEGER) AS n FROM r ORDER BY k, _position DESC
--> a | 17

-- A star hands on its columns under their names, and what is named the same behind it gets another.
--@ case row_number_hidden_by_a_star keys
--@ record r {"k":"a","j":5,"i":1}
--@ record r {"k":"a","j":1,"i":2}
--@ record r {"k":"a","j":1,"i":3}
--@ record r {"k":"a","j":1,"i":2}
SELECT k, j, i FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY j, _position) AS i FROM r) WHERE i <= 2
--> a | 5 | 1
--> a | 1 | 2
--> a | 1 | 2

--@ case row_number_in_front_of_a_star keys
--@ why keeps the first
SELECT k, j, i FROM (SELECT row_number() OVER (PARTITION BY k ORDER BY j, _position) AS i, * FROM r) WHERE i <= 2

--@ case key_hidden_by_a_star keys
--@ record r {"k":"a","i":1,"s":"x"}
--@ record r {"k":"a","i":3,"s":"y"}
SELECT k, median(i) AS m FROM (SELECT *, s AS k FROM r) GROUP BY k
--> a | 2.0

--@ case key_hidden_two_levels_below keys
--@ record r {"k":"a","i":1,"s":"x"}
--@ record r {"k":"a","i":3,"s":"y"}
SELECT k, median(i) AS m FROM (SELECT *, upper(s) AS k FROM (SELECT s, *, i + 1 AS j FROM r)) GROUP BY k
--> a | 2.0

--@ case name_that_a_double_gets keys
--@ record r {"k":"a","i":1,"s":"x"}
--@ record r {"k":"a","i":3,"s":"x"}
SELECT k_1, k, median(i) AS m FROM (SELECT *, s AS k FROM r) GROUP BY k_1, k
--> x | a | 2.0

--@ case only_the_name_that_a_double_gets recompute
--@ record r {"k":"a","i":1,"s":"x"}
--@ record r {"k":"b","i":3,"s":"x"}
SELECT k_1, median(i) AS m FROM (SELECT *, s AS k FROM r) GROUP BY k_1
--> x | 2.0

--@ case distinct_on_the_last_of_an_alias keys
--@ record r {"k":"a","i":1,"s":"x"}
--@ record r {"k":"a","i":3,"s":"y"}
SELECT i, k_1 FROM (SELECT DISTINCT ON (k) i, k, s AS k FROM r ORDER BY k, i, _position)
--> 1 | x
--> 3 | y

--@ case member_named_as_the_row_number keys
--@ record r {"k":"a","i":1,"j":9}
--@ record r {"k":"a","i":2,"j":1}
--@ record r {"k":"a","i":3,"j":1}
SELECT k, i FROM (SELECT *, {'n': j} AS st FROM r) QUALIFY row_number() OVER (PARTITION BY k ORDER BY i) > 0 AND st.n <= 1
--> a | 2
--> a | 3

--@ case unnamed_below_a_star keys
SELECT kk, max(i) AS m FROM (SELECT *, k AS kk FROM (SELECT k, median(i) AS i, count(*) FROM r GROUP BY k)) GROUP BY kk

--@ case last_value_of_peers recompute
--@ why last_value() over rows that may be equal
SELECT k, s, last_value(s) OVER (PARTITION BY k ORDER BY i) AS newest FROM r

--@ case last_value_by_position keys
SELECT k, s, last_value(s) OVER (PARTITION BY k ORDER BY i, _position) AS newest, arg_max(s, i) OVER (PARTITION BY k ORDER BY _position) AS top FROM r

--@ case arg_max_over_a_window recompute
SELECT k, s, arg_max(s, i) OVER (PARTITION BY k) AS top FROM r

-- A WITH query hides the one of its name further out, and reads it.
--@ case with_hides_the_one_outside keys
--@ record r {"k":"x","i":1,"j":100}
--@ record r {"k":"x","i":3,"j":300}
WITH a AS (SELECT k, i AS v FROM r), b AS (WITH a AS (SELECT k, j AS v FROM r) SELECT k, v FROM a) SELECT k, median(v) AS m FROM b GROUP BY k
--> x | 200.0

--@ case with_reads_the_one_that_it_hides keys
--@ record r {"k":"x","i":1}
--@ record r {"k":"x","i":3}
--@ record r {"k":"x","i":-9}
WITH a AS (SELECT k, i FROM r) SELECT k, median(i) AS m FROM (WITH a AS (SELECT * FROM a WHERE i > 0) SELECT * FROM a) GROUP BY k
--> x | 2.0

--@ case with_in_the_middle keys
--@ record r {"k":"x","i":1,"j":100}
--@ record r {"k":"x","i":3,"j":300}
WITH a AS (SELECT k, i AS v FROM r) SELECT k, median(v) AS m FROM (WITH c AS (SELECT k, v + 1 AS v FROM a), a AS (SELECT k, v + 10 AS v FROM c) SELECT k, v FROM a) GROUP BY k
--> x | 13.0

--@ case with_hides_a_source_from_its_own_query_only keys
--@ record r {"k":"x","i":1}
--@ record r {"k":"x","i":3}
WITH a AS (SELECT k, i FROM r) SELECT k, median(i) AS m FROM (WITH r AS (SELECT 'z' AS k, 9 AS i) SELECT a.k, a.i FROM a) GROUP BY k
--> x | 2.0

-- Which rows the frame has depends on the order of equal ones, and an order more would change who is equal.
--@ case a_frame_that_leaves_out_equal_rows recompute
--@ why over rows that may be equal in its ORDER BY
SELECT k, i, sum(i) OVER (PARTITION BY k ORDER BY i ROWS 1 PRECEDING EXCLUDE TIES) AS s FROM r

-- A key is made of all records. On those that a filter drops it may fail.
--@ case guarded_key keys
--@ no random
--@ record mixed {"kind":"num","s":"1","i":2}
--@ record mixed {"kind":"text","s":"abc","i":3}
--@ record mixed {"kind":"num","s":"1","i":4}
--@ record mixed {"kind":"num","s":"x","i":4}
--@ quarantined 1
SELECT CAST(s AS INTEGER) AS n, median(i) AS m FROM mixed WHERE kind = 'num' GROUP BY n
--> 1 | 3.0

--@ case guarded_key_below_the_filter keys
--@ no random
--@ record mixed {"kind":"num","s":"1","i":2}
--@ record mixed {"kind":"text","s":"abc","i":3}
--@ record mixed {"kind":"num","s":"1","i":4}
--@ record mixed {"kind":"num","s":"x","i":4}
--@ quarantined 1
WITH t AS (SELECT * FROM mixed) SELECT CAST(s AS INTEGER) AS n, median(i) AS m FROM t WHERE kind = 'num' GROUP BY n
--> 1 | 3.0

--@ case guarded_key_below_a_filter_that_may_fail keys
--@ no random
--@ record mixed {"kind":"7","s":"1","i":2}
--@ record mixed {"kind":"8","s":"abc","i":3}
--@ record mixed {"kind":"seven","s":"1","i":3}
--@ record mixed {"kind":"7","s":"1","i":4}
--@ quarantined 1
SELECT CAST(s AS INTEGER) AS n, median(i) AS m FROM (SELECT CAST(kind AS INTEGER) AS k, s, i FROM mixed) WHERE k + 1 = 8 GROUP BY n
--> 1 | 3.0

--@ case guarded_key_behind_a_collation keys
--@ no random
--@ record mixed {"kind":"NUM","s":"1","i":2}
--@ record mixed {"kind":"text","s":"abc","i":3}
--@ record mixed {"kind":"num","s":"1","i":4}
--@ record mixed {"s":"none","i":4}
--@ quarantined 0
SELECT CAST(s AS INTEGER) AS n, median(i) AS m FROM mixed WHERE kind COLLATE NOCASE = 'num' GROUP BY n
--> 1 | 3.0

--@ case guarded_partition keys
--@ no random
--@ record mixed {"kind":"num","s":"1","i":2}
--@ record mixed {"kind":"text","s":"abc","i":3}
--@ record mixed {"kind":"num","s":"1","i":4}
--@ quarantined 0
SELECT s, i, sum(i) OVER (PARTITION BY CAST(s AS INTEGER) ORDER BY _position) AS total FROM (SELECT *, _position FROM mixed) WHERE kind = 'num'
--> 1 | 2 | 2
--> 1 | 4 | 6

-- DuckDB takes a filter by what a window partitions by before the window.
--@ case guarded_rank keys
--@ no random
--@ record mixed {"kind":"num","s":"1","i":2}
--@ record mixed {"kind":"text","s":"abc","i":3}
--@ record mixed {"kind":"text","s":"abcd","i":3}
--@ record mixed {"kind":"num","s":"10","i":4}
--@ record mixed {"kind":"num","s":"9","i":4}
--@ quarantined 0
SELECT kind, s FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY CAST(s AS INTEGER) DESC) AS place FROM mixed) WHERE place = 1 AND kind = 'num'
--> num | 10

-- What upper levels filter need not be kept.
--@ case filters_of_several_levels keys
SELECT k, median(i) AS m FROM (SELECT k, i, s FROM (SELECT * FROM r WHERE i > 0) WHERE i < 50) WHERE s LIKE 'x%' OR s < 'y' GROUP BY k

-- A row that a filter may fail on, or says nothing of, takes nobody's place.
--@ case guarded_place keys
--@ no random
--@ record mixed {"kind":"a","i":9}
--@ record mixed {"kind":"a","s":"7","i":5}
--@ record mixed {"kind":"a","s":"8","i":4}
--@ quarantined 0
SELECT kind, s FROM (SELECT * FROM mixed) WHERE CAST(s AS INTEGER) > 5 QUALIFY row_number() OVER (PARTITION BY kind ORDER BY i DESC) = 1
--> a | 7

--@ case newest_record_as_json recompute
--@ why takes whole rows by the name of their relation
SELECT k, to_json(o) AS doc FROM r AS o QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1

--@ case whole_rows_of_a_subquery recompute
SELECT k, to_json(x) AS doc FROM (SELECT k, median(i) AS m FROM r GROUP BY k) AS x

--@ case whole_rows_of_an_unnamed_subquery recompute
SELECT k, to_json(unnamed_subquery) AS doc FROM (SELECT k, median(i) AS m FROM r GROUP BY k)

--@ case a_column_comes_before_a_relation_of_its_name keys
SELECT i, median(x) AS m FROM (SELECT i, x FROM (SELECT * FROM r) AS x) AS i GROUP BY i

--@ case star_of_a_struct_hides_a_column recompute
--@ why has * of a struct
SELECT city, median(n) AS m FROM (SELECT p.*, q.* FROM (SELECT {'city': s} AS p, k AS city, i AS n FROM r) AS q) GROUP BY city
