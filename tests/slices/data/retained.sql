-- What lies further back than so long before the newest ingest time goes. Records come a second
-- apart, from 1970-01-01T00:00:01 on.
--@ source r {columns: {k: VARCHAR, i: INTEGER, t: TIMESTAMP, d: DATE}}
--@ source of_a {stream: r, where: {$.k: a}, columns: {k: VARCHAR, i: INTEGER}}
--@ record r {"k":"a","i":1,"t":"1970-01-01T00:00:01"}
--@ record r {"k":"a","i":2,"t":"1970-01-01T00:00:02"}
--@ record r {"k":"b","i":3,"t":"1970-01-01T00:00:03"}
--@ record r {"k":"a","i":4,"t":"1970-01-01T00:00:01"}
--@ source dated {stream: r, where: {$.k: a}, columns: {i: INTEGER, t: TIMESTAMP}}
--@ slice latest key: [k]
SELECT k, i, t FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1
--@ slice of_dated
SELECT t, i, count(*) AS n FROM dated GROUP BY ALL
--@ slice of_rows
SELECT t, sum(n) AS n FROM of_dated GROUP BY ALL
--@ slice seconds retain: {column: s, for: 4s}
SELECT date_trunc('second', _time) AS s, count(*) AS n FROM r GROUP BY ALL

--@ case by_ingest_time aggregate
--@ with retain: {column: s, for: 2s, relative_to: ingest_time}
--@ filtered 0
SELECT date_trunc('second', _time) AS s, k, count(*) AS n FROM r GROUP BY ALL
--> 1970-01-01 00:00:02+00 | a | 1
--> 1970-01-01 00:00:03+00 | b | 1
--> 1970-01-01 00:00:04+00 | a | 1

-- The last record comes three seconds late, and so counts as filtered.
--@ case late_records aggregate
--@ with retain: {column: t, for: 2s}
--@ filtered 1
SELECT t, sum(i) AS total FROM r GROUP BY t
--> 1970-01-01 00:00:02 | 2
--> 1970-01-01 00:00:03 | 3

--@ case late_among_those_that_where_takes aggregate
--@ with retain: {column: t, for: 2s}
--@ filtered 0
SELECT t, sum(i) AS total FROM r WHERE i < 4 GROUP BY t
--> 1970-01-01 00:00:02 | 2
--> 1970-01-01 00:00:03 | 3

-- What `where` of the SQL drops is not looked at, though the key would fail on it.
--@ case guarded_key aggregate
--@ with retain: {column: t, for: 2s}
--@ record r {"k":"1970-01-01 00:00:01","i":1}
--@ record r {"k":"no time","i":0}
--@ record r {"k":"1970-01-01 00:00:01","i":2}
--@ record r {"k":"1970-01-01 00:00:00","i":3}
--@ no random
--@ quarantined 0
--@ filtered 1
SELECT CAST(k AS TIMESTAMP) AS t, sum(i) AS total FROM r WHERE k LIKE '1970%' GROUP BY 1
--@ no rows

--@ case keys_around_the_ingest_time aggregate
--@ with retain: {column: bucket, for: 3s}
SELECT time_bucket(INTERVAL 2 SECOND, _time + to_seconds(coalesce(i, 0) // 40)) AS bucket, k, count(*) AS n, sum(i) AS total, max(i) AS most FROM r GROUP BY ALL

--@ case distinct_values aggregate
--@ with retain: {column: s, for: 5s}
SELECT date_trunc('second', _time) AS s, count(DISTINCT k) AS names, count(DISTINCT i % 5) AS rests, avg(i) AS mean FROM r GROUP BY 1 HAVING count(*) > 0

--@ case null_keys_stay aggregate
--@ with retain: {column: t, for: 2s}
--@ record r {"k":"a","i":1}
--@ record r {"k":"a","i":2,"t":"1970-01-01T00:00:01"}
--@ record r {"k":"a","i":3}
--@ record r {"k":"a","i":4}
--@ record r {"k":"a","i":5,"t":"9999-01-01T00:00:01"}
--@ filtered 0
SELECT t, sum(i) AS total FROM r GROUP BY t
--> NULL | 8
--> 9999-01-01 00:00:01 | 5

-- A day is behind when all of it is.
--@ case by_day aggregate
--@ with retain: {column: d, for: 1d}
--@ record r {"i":1,"d":"1969-12-30"}
--@ record r {"i":2,"d":"1969-12-31"}
--@ record r {"i":3,"d":"1970-01-01"}
--@ filtered 1
SELECT d, sum(i) AS total FROM r GROUP BY d
--> 1969-12-31 | 2
--> 1970-01-01 | 3

-- The horizon moves also with records that the slice's source filters.
--@ case filtered_records_move_it aggregate
--@ with retain: {column: s, for: 1s}
--@ record r {"k":"a","i":1}
--@ record r {"k":"b","i":2}
--@ record r {"k":"b","i":3}
--@ filtered 2
SELECT date_trunc('second', _time) AS s, count(*) AS n FROM of_a GROUP BY ALL
--@ no rows

--@ case distinct_rows aggregate
--@ with retain: {column: s, for: 2s}
SELECT DISTINCT date_trunc('second', _time) AS s, k FROM r

--@ case of_a_subquery aggregate
--@ with retain: {column: s, for: 3s}
SELECT s, sum(u) AS total FROM (SELECT date_trunc('second', _time) AS s, unnest([i, 1]) AS u FROM r) GROUP BY s

-- Late records are applied and hidden where the column is no key of one stream's groups.
--@ case no_key aggregate
--@ with retain: {column: latest, for: 3s}
--@ why hidden, not let go
SELECT k, max(_time) AS latest FROM r GROUP BY k

--@ case rows append
--@ with retain: {column: t, for: 2s}
--@ why let go
--@ filtered 1
SELECT t, i FROM r
--> 1970-01-01 00:00:02 | 2
--> 1970-01-01 00:00:03 | 3

--@ case late_rows_among_those_that_where_takes append
--@ with retain: {column: u, for: 2s}
--@ filtered 0
SELECT k, t AS u FROM r AS q WHERE i < 4
--> a | 1970-01-01 00:00:02
--> b | 1970-01-01 00:00:03

-- Rows are stored in between, with their ingest time, before they are added.
--@ case late_rows_of_all_types append
--@ with retain: {column: t, for: 2s}
--@ filtered 1
SELECT i + 1, t, NULL AS nothing, [k, NULL] AS names, {'i': i, 'd': 0.5} AS pair, 1e3 AS thousand, CAST('1.50' AS DECIMAL(9,2)) AS price, d FROM r ORDER BY i
--> 3 | 1970-01-01 00:00:02 | NULL | [a, NULL] | {'i': 2, 'd': 0.5} | 1000.0 | 1.50 | NULL
--> 4 | 1970-01-01 00:00:03 | NULL | [b, NULL] | {'i': 3, 'd': 0.5} | 1000.0 | 1.50 | NULL

--@ case late_rows_of_a_column_of_that_name append
--@ with retain: {column: t, for: 2s}
--@ filtered 0
SELECT t, i AS __ingested FROM r WHERE i > 1
--> 1970-01-01 00:00:02 | 2
--> 1970-01-01 00:00:03 | 3

--@ case unnested_rows append
--@ with retain: {column: s, for: 3s}
SELECT date_trunc('second', _time) AS s, unnest([k, 'x']) AS u FROM r

--@ case holistic keys
--@ with retain: {column: s, for: 3s}
--@ why what is past `retain` is let go
SELECT date_trunc('second', _time) AS s, median(i) AS m FROM r GROUP BY s

--@ case holistic_late_records keys
--@ with retain: {column: t, for: 2s}
--@ filtered 1
SELECT t, median(i) AS m FROM r GROUP BY t
--> 1970-01-01 00:00:02 | 2.0
--> 1970-01-01 00:00:03 | 3.0

-- A filter above that may fail is asked of single records by the SQL only.
--@ case holistic_late_behind_a_guard keys
--@ with retain: {column: t, for: 2s}
--@ filtered 0
SELECT t, median(i) AS m FROM (SELECT * FROM r) WHERE CAST(nullif(i, 4) AS TINYINT) > 0 GROUP BY t
--> 1970-01-01 00:00:02 | 2.0
--> 1970-01-01 00:00:03 | 3.0

--@ case holistic_of_two_keys keys
--@ with retain: {column: t, for: 4s}
--@ why what is past `retain` is let go
SELECT k, list(i ORDER BY i) AS all_of_it, t FROM (SELECT * FROM r WHERE i IS NOT NULL) GROUP BY t, k

--@ case ranked_within_a_time keys
--@ with retain: {column: s, for: 4s}
--@ why what is past `retain` is let go
SELECT s, i, rank() OVER (PARTITION BY s, k ORDER BY i) AS place FROM (SELECT date_trunc('second', _time) AS s, k, i FROM r)

-- The newest gives way to any later one, so it need not be kept to be right.
--@ case newest_of_a_key keys
--@ with retain: {column: t, for: 2s}
--@ why what is past `retain` is let go
SELECT k, i, t FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1
--> b | 3 | 1970-01-01 00:00:03

--@ case distinct_on_the_newest keys
--@ with retain: {column: t, for: 3s}
--@ why what is past `retain` is let go
SELECT DISTINCT ON (k) k, i, t FROM r ORDER BY _position DESC

-- Of two, one that is hidden still takes the place of an older one.
--@ case newest_two keys
--@ with retain: {column: t, for: 2s}
--@ why what they are made of is not
--@ record r {"k":"a","i":1,"t":"1970-01-01T00:00:09"}
--@ record r {"k":"a","i":2,"t":"1970-01-01T00:00:01"}
--@ record r {"k":"a","i":3,"t":"1970-01-01T00:00:01"}
--@ record r {"k":"b","i":4}
--@ record r {"k":"b","i":5}
--@ record r {"k":"b","i":6}
SELECT k, i, t FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) <= 2
--> b | 5 | NULL
--> b | 6 | NULL

-- What is hidden still decides which row is the first of its key.
--@ case first_of_a_key keys
--@ with retain: {column: s, for: 2s}
--@ why what they are made of is not
--@ record r {"k":"a","i":9}
--@ record r {"k":"a","i":1}
--@ record r {"k":"a","i":2}
--@ record r {"k":"b","i":1}
SELECT k, i, date_trunc('second', _time) AS s FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY i DESC NULLS LAST, _position) = 1
--> b | 1 | 1970-01-01 00:00:04+00

--@ case global recompute
--@ with retain: {column: s, for: 3s}
SELECT date_trunc('second', _time) AS s, i FROM r ORDER BY i DESC, _position LIMIT 3

--@ case over_a_retained_slice recompute
--@ why whose rows go by themselves
SELECT count(*) AS seconds, sum(n) AS records FROM seconds
--> 4 | 4

--@ case over_a_slice aggregate
--@ with retain: {column: t, for: 2s}
--@ why let go
SELECT t, sum(i) AS total FROM latest GROUP BY t
--> 1970-01-01 00:00:03 | 3

--@ case joined_rows keys
--@ with retain: {column: s, for: 3s}
--@ why what is past `retain` is let go
SELECT date_trunc('second', a._time) AS s, a.i AS x, b.i AS y FROM r AS a JOIN of_a AS b ON a.k = b.k

-- What is joined to nothing shows when a record that was joined to it has gone: it has to stay.
--@ case joined_left keys
--@ with retain: {column: s, for: 3s}
--@ why what they are made of is not
SELECT date_trunc('second', b._time) AS s, a.i AS x, b.i AS y FROM r AS a LEFT JOIN of_a AS b ON a.k = b.k

--@ case joined_to_what_may_be_missing keys
--@ with retain: {column: s, for: 3s}
--@ why what is past `retain` is let go
SELECT time_bucket(INTERVAL 2 SECOND, a._time) AS s, a.k, count(b.i) AS n, sum(a.i) AS total FROM r AS a LEFT JOIN of_a AS b ON a.k = b.k AND b.i > 1 GROUP BY ALL

--@ case joined_and_aggregated keys
--@ with retain: {column: s, for: 2s}
--@ why what they are made of is not
SELECT a.k, max(a._time) AS s, count(*) AS n FROM r AS a JOIN of_a AS b ON a.k = b.k GROUP BY a.k

--@ case over_a_slice_by_key keys
--@ with retain: {column: t, for: 2s}
--@ why what is past `retain` is let go
SELECT t, max(i) AS most FROM latest GROUP BY t

-- The horizon moves also where the slice between passes over what another one filters.
--@ case over_two_slices aggregate
--@ with retain: {column: t, for: 2s}
--@ record r {"k":"a","i":1,"t":"1970-01-01T00:00:01"}
--@ record r {"k":"b","i":2}
--@ record r {"k":"b","i":3}
--@ record r {"k":"b","i":3}
SELECT t, sum(n) AS records FROM of_rows GROUP BY t
--@ no rows

--@ case joined keys
--@ with retain: {column: s, for: 2s}
--@ why what is past `retain` is let go
SELECT date_trunc('second', a._time) AS s, count(*) AS n FROM r AS a JOIN r AS b ON a.k = b.k GROUP BY ALL

-- Where a join makes the rows, a record that comes late counts as applied: another one may show it.
--@ case joined_late_records keys
--@ with retain: {column: t, for: 2s}
--@ filtered 0
SELECT a.t, count(*) AS n FROM r AS a JOIN r AS b ON a.k = b.k GROUP BY ALL
--> 1970-01-01 00:00:02 | 3
--> 1970-01-01 00:00:03 | 1

--@ case joined_slices keys
--@ with retain: {column: t, for: 2s}
--@ why what is past `retain` is let go
SELECT l.t, l.k, o.n FROM latest AS l LEFT JOIN of_rows AS o ON o.t = l.t

--@ case joined_slice_with_retain recompute
--@ why reads slice seconds, whose rows go by themselves (retain)
SELECT s.n, l.k FROM seconds AS s JOIN latest AS l ON l.i = s.n

--@ case rolled_up aggregate
--@ with retain: {column: s, for: 2s}
SELECT date_trunc('second', _time) AS s, k, count(*) AS n FROM r GROUP BY ROLLUP (date_trunc('second', _time), k)
